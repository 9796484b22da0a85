//! Those who send: as much as there is room for.

use std::{sync::atomic::Ordering::Relaxed, thread, time::Duration};

use epoq::{Outgoing, Queue, SendError};

use epoq_judge::{Broken, Id};

use crate::stage::{GROUPS, Random, Stage};

/// Longest body that is sent often; one in a few hundred is longer than what a segment's arena takes.
const BODY_MAX: u64 = 120;

/// Writes a body that tells its message and shows whether a byte of it is wrong.
pub(crate) fn write_body(body: &mut Vec<u8>, id: Id, length: usize) {
    body.clear();
    body.extend_from_slice(&id.0.to_le_bytes());
    let pattern = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    body.extend(pattern.iter().cycle().take(length));
}

/// Whose body it is.
pub(crate) fn read_body(body: &[u8]) -> Result<Id, Broken> {
    let number = body.first_chunk().map(|number| Id(u64::from_le_bytes(*number)));
    let is_whole = |id: &Id| {
        let pattern = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let mut chunks = body[8..].chunks_exact(8);
        chunks.all(|chunk| chunk == pattern) && pattern.starts_with(chunks.remainder())
    };
    number
        .filter(is_whole)
        .ok_or_else(|| Broken(format!("not the body that was sent: {body:?}")))
}

fn length(random: &mut Random) -> usize {
    if random.once_in(500) {
        1_024 + random.below(8_192) as usize
    } else {
        8 + random.below(BODY_MAX) as usize
    }
}

/// Waits while senders take a rest. False if it is time to stop.
fn goes_on(stage: &Stage) -> bool {
    while stage.is_ebb.load(Relaxed) && !stage.is_closing() {
        thread::sleep(Duration::from_millis(20));
    }
    !stage.is_closing()
}

/// Sends batches of ten to the standard queues.
pub(crate) fn standard(stage: &Stage, sender: usize, random: &mut Random, end: u64) {
    let worker = random
        .once_in(2)
        .then(|| stage.broker.worker().expect("a worker"));
    let mut bodies = vec![Vec::new(); 10];
    while goes_on(stage) && stage.now() < end {
        let queue = &stage.standard[random.below(stage.standard.len() as u64) as usize];
        let count = if random.once_in(8) {
            1 + random.below(10)
        } else {
            10
        } as usize;
        let ids: Vec<_> = stage.books.begin(sender, count).collect();
        for (&id, body) in ids.iter().zip(&mut bodies) {
            write_body(body, id, length(random));
        }
        let bodies = &bodies[..count];
        let delay = random.once_in(1_000).then(|| random.millis(1, 2_000));
        let results: Vec<Result<(), SendError>> = match (delay, &worker) {
            (Some(delay), _) => {
                let messages: Vec<_> = bodies
                    .iter()
                    .map(|body| Outgoing::new(body).delay(delay))
                    .collect();
                let sent = queue.send_messages(&messages).expect("a valid batch");
                sent.iter()
                    .map(|sent| sent.as_ref().map(drop).map_err(|&error| error))
                    .collect()
            }
            (None, Some(worker)) => worker.turn(|turn| {
                let sent = turn.send_batch(queue, bodies).expect("a valid batch");
                sent.iter()
                    .map(|sent| sent.as_ref().map(drop).map_err(|&error| error))
                    .collect()
            }),
            (None, None) => {
                let sent = queue.send_batch(bodies).expect("a valid batch");
                sent.iter()
                    .map(|sent| sent.as_ref().map(drop).map_err(|&error| error))
                    .collect()
            }
        };
        let refused = settle(stage, &ids, results);
        if refused > 0 {
            wait_for_room(stage, sender, queue, random);
        }
    }
}

/// Enters what was refused.
fn settle(stage: &Stage, ids: &[Id], results: Vec<Result<(), SendError>>) -> u64 {
    let mut refused = 0;
    for (&id, result) in ids.iter().zip(results) {
        match result {
            Ok(()) => continue,
            Err(SendError::OverBudget { .. }) => stage.events.refused.fetch_add(1, Relaxed),
            Err(SendError::DeduplicationFull { .. }) => stage.events.ids_full.fetch_add(1, Relaxed),
            Err(error) => {
                stage.convict(Broken(format!("{id:?} was refused: {error}")));
                0
            }
        };
        refused += 1;
        stage.judge(stage.books.refused(id));
    }
    refused
}

/// One more message, with patience.
fn wait_for_room(stage: &Stage, sender: usize, queue: &Queue, random: &mut Random) {
    if random.once_in(2) {
        thread::sleep(random.millis(0, 3));
        return;
    }
    let ids: Vec<_> = stage.books.begin(sender, 1).collect();
    let mut body = Vec::new();
    write_body(&mut body, ids[0], length(random));
    let sent = queue.send_wait(&Outgoing::new(&body), random.millis(1, 50));
    settle(stage, &ids, vec![sent.map(drop)]);
}

/// Sends to the groups of the FIFO queues.
pub(crate) fn fifo(stage: &Stage, sender: usize, random: &mut Random, end: u64) {
    let mut bodies = vec![Vec::new(); 10];
    while goes_on(stage) && stage.now() < end {
        let fifo = &stage.fifo[random.below(stage.fifo.len() as u64) as usize];
        let ids: Vec<_> = stage.books.begin(sender, 1 + random.below(10) as usize).collect();
        let mut names = Vec::new();
        for (&id, body) in ids.iter().zip(&mut bodies) {
            write_body(body, id, length(random));
            names.push((random.below(GROUPS as u64).to_string(), id.0.to_string()));
        }
        let messages: Vec<_> = names
            .iter()
            .zip(&bodies)
            .map(|((group, id), body)| Outgoing::new(body).message_group(group).deduplication_id(id))
            .collect();
        let sent = fifo.queue.send_messages(&messages).expect("a valid batch");
        let results = sent
            .iter()
            .map(|sent| sent.as_ref().map(drop).map_err(|&error| error))
            .collect();
        if settle(stage, &ids, results) > 0 {
            thread::sleep(random.millis(5, 50));
        } else if random.once_in(8) {
            // Some of them once more: nothing comes of it.
            let again = fifo.queue.send_messages(&messages[..1]).expect("a valid batch");
            for sent in &again {
                if let Err(error) = sent
                    && !matches!(
                        error,
                        SendError::OverBudget { .. } | SendError::DeduplicationFull { .. }
                    )
                {
                    stage.convict(Broken(format!("a duplicate was refused: {error}")));
                }
            }
        }
        thread::sleep(random.millis(0, 3));
    }
}

/// Sends to the queue that is purged, and purges it.
pub(crate) fn side(stage: &Stage, random: &mut Random, end: u64) {
    while goes_on(stage) && stage.now() < end {
        let round = stage.side_purged.load(Relaxed);
        // What was sent before a purge is not received after it.
        let bodies = [(); 10].map(|()| round.to_le_bytes());
        let sent = stage.side.send_batch(&bodies).expect("a valid batch");
        let accepted = sent.iter().filter(|sent| sent.is_ok()).count();
        stage.side_accepted.fetch_add(accepted as u64, Relaxed);
        if random.once_in(400) {
            stage.side.purge().expect("a queue");
            stage.side_purged.fetch_add(1, Relaxed);
            stage.events.purges.fetch_add(1, Relaxed);
        }
        if random.once_in(4) {
            thread::sleep(random.millis(0, 3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_show_damage() {
        let mut body = Vec::new();
        for length in [0, 7, 8, 100] {
            write_body(&mut body, Id(0x0123_4567), length);
            assert_eq!(read_body(&body), Ok(Id(0x0123_4567)));
            if length > 0 {
                *body.last_mut().expect("one") ^= 1;
                assert!(read_body(&body).is_err());
            }
        }
        assert!(read_body(b"short").is_err());
    }
}
