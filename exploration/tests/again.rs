//! What went wrong once goes wrong again.
#![cfg(shuttle)]

#[test]
fn a_seed_goes_the_same_way_twice() {
    for seed in 0..40 {
        let [one, two] = [(), ()].map(|()| epoq_exploration::explore(seed).expect("nothing is wrong"));
        assert_eq!(
            (one.steps, one.operations),
            (two.steps, two.operations),
            "seed {seed}"
        );
    }
}
