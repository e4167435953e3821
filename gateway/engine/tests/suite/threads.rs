//! One copy of a model serves several threads at once, and rightly.

use crate::common::{assert_close, engines, goldens, load, run};

/// Enough for the threads to meet in every kernel.
const RUNS: usize = 500;

#[test]
fn four_threads_on_one_model_get_right_answers() {
    for engine in engines() {
        for name in ["mlp", "ranker", "encoder"] {
            let model = load(&*engine, name, 8);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let model = &model;
                    scope.spawn(move || {
                        let mut instance = model.instance().unwrap();
                        let all = goldens(name);
                        for number in 0..RUNS {
                            let golden = &all[(thread + number) % all.len()];
                            let got = run(&mut *instance, std::slice::from_ref(&golden.inputs)).unwrap();
                            assert_close(&got.members[0], &golden.outputs, 2e-6, name);
                        }
                    });
                }
            });
        }
    }
}
