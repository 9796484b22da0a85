//! What the queues without leases have in common: a received body is its own receipt, and deleting is dropping it.

use crate::target::Delivery;

/// A body that has left its queue.
pub(super) struct HandedOver<'b>(pub(super) &'b [u8]);

impl Delivery for HandedOver<'_> {
    #[inline(always)]
    fn body(&self) -> &[u8] {
        self.0
    }

    #[inline(always)]
    fn receives(&self) -> u32 {
        0
    }
}

/// Writes out [`Calls`](crate::target::Calls) and [`Session`](crate::target::Session) for a session that can push and pop boxed bodies.
macro_rules! hand_over_calls {
    ($session:ident) => {
        impl $crate::target::Calls for $session<'_> {
            type Handle = Box<[u8]>;

            #[inline(always)]
            fn send(&mut self, body: &[u8]) -> Result<(), $crate::target::Refusal> {
                self.push(body.into())
            }

            #[inline(always)]
            fn send_batch(&mut self, bodies: &[Vec<u8>]) -> $crate::target::Done {
                let taken = bodies
                    .iter()
                    .take_while(|body| self.push(body.as_slice().into()).is_ok())
                    .count();
                $crate::target::Done::all(taken)
            }

            #[inline(always)]
            fn receive<I: $crate::target::Inspect>(
                &mut self,
                max: usize,
                _: std::time::Duration,
                handles: &mut $crate::target::Handles<Box<[u8]>>,
                inspector: &mut I,
            ) -> Result<usize, $crate::target::Refusal> {
                let mut received = 0;
                while received < max {
                    let Some(body) = self.pop() else { break };
                    received += 1;
                    if inspector.inspect(&$crate::targets::hand_over::HandedOver(&body)) {
                        handles.push(body);
                    }
                }
                Ok(received)
            }

            #[inline(always)]
            fn delete(&mut self, body: Box<[u8]>) -> bool {
                drop(body);
                true
            }

            #[inline(always)]
            fn delete_batch(
                &mut self,
                bodies: &mut $crate::target::Handles<Box<[u8]>>,
            ) -> $crate::target::Done {
                let done = $crate::target::Done::all(bodies.len());
                bodies.clear();
                done
            }
        }

        impl $crate::target::Session for $session<'_> {
            type Turn<'s>
                = &'s mut Self
            where
                Self: 's;

            #[inline(always)]
            fn turn(&mut self) -> &mut Self {
                self
            }
        }
    };
}

pub(super) use hand_over_calls;
