//! Members of a batch get their own rows: all of them and nobody else's.

use sluice_engine::EngineError;
use sluice_tensor::{NamedTensor, SparseRows, Tensor};

use crate::common::{GOLDEN_MODELS, assert_close, engines, floats, goldens, load, run, run_alone};

fn rows_of(inputs: &[NamedTensor], start: usize, count: usize) -> Vec<NamedTensor> {
    let cut = |input: &NamedTensor| NamedTensor {
        name: input.name.clone(),
        tensor: input.tensor.rows(start, count).unwrap(),
    };
    inputs.iter().map(cut).collect()
}

#[test]
fn a_batch_of_several_members_gives_each_what_it_gets_alone() {
    for engine in engines() {
        for name in GOLDEN_MODELS {
            let model = load(&*engine, name, 8);
            let mut instance = model.instance().unwrap();
            let golden = goldens(name).pop().unwrap();
            let parts = [(0, 1), (1, 4), (5, 2), (7, 1)];
            let members: Vec<_> =
                parts.iter().map(|(start, count)| rows_of(&golden.inputs, *start, *count)).collect();
            let together = run(&mut *instance, &members).unwrap();
            assert_eq!(together.members.len(), members.len());
            for ((got, member), (start, count)) in together.members.iter().zip(members).zip(parts) {
                let what = format!("{name} on {:?}, rows {start}+{count}", engine.kind());
                assert_close(got, &rows_of(&golden.outputs, start, count), 2e-6, &what);
                assert_close(got, &run_alone(&*model, member).unwrap(), 2e-6, &what);
            }
        }
    }
}

#[test]
fn outputs_outlive_the_next_batches_and_the_model() {
    for engine in engines() {
        let model = load(&*engine, "mlp", 8);
        let mut instance = model.instance().unwrap();
        let all = goldens("mlp");
        let outputs: Vec<_> = all
            .iter()
            .map(|golden| run(&mut *instance, std::slice::from_ref(&golden.inputs)).unwrap())
            .collect();
        drop((instance, model));
        for (golden, output) in all.iter().zip(outputs) {
            assert_close(&output.members[0], &golden.outputs, 2e-6, "kept");
        }
    }
}

#[test]
fn an_input_handed_through_is_not_overwritten_by_the_next_batch() {
    for engine in engines() {
        // rten may refuse such a graph; what it takes it must get right.
        let Ok(model) = engine.load(&crate::common::fixture("passthrough"), &crate::common::options(4))
        else {
            continue;
        };
        let mut instance = model.instance().unwrap();
        let first = run(&mut *instance, &[vec![floats("x", &[1, 2], &[1.0, 2.0])]]).unwrap();
        run(&mut *instance, &[vec![floats("x", &[1, 2], &[8.0, 9.0])]]).unwrap();
        let want = [floats("x", &[1, 2], &[1.0, 2.0]), floats("y", &[1, 2], &[-1.0, -2.0])];
        assert_close(&first.members[0], &want, 0.0, engine.describe().as_str());
    }
}

#[test]
fn outputs_with_other_rows_than_the_batch_fail_for_all() {
    for engine in engines() {
        let model = load(&*engine, "shrinking", 8);
        let two = vec![floats("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0])];
        let one = vec![floats("x", &[1, 2], &[5.0, 6.0])];
        let mut instance = model.instance().unwrap();
        for members in [vec![two.clone()], vec![two.clone(), one]] {
            let got = run(&mut *instance, &members);
            assert!(matches!(got, Err(EngineError::Run(_))), "{got:?}");
        }
        // Without batches rows mean nothing, and the output is passed through whole.
        let whole = run_alone(&*load(&*engine, "shrinking", 0), two.clone()).unwrap();
        assert_close(&whole, &[floats("y", &[1, 2], &[4.0, 6.0])], 0.0, "whole");
    }
}

#[test]
fn a_model_without_batches_takes_one_member() {
    for engine in engines() {
        let model = load(&*engine, "mlp", 0);
        let inputs = goldens("mlp").swap_remove(0).inputs;
        let got = run(&mut *model.instance().unwrap(), &[inputs.clone(), inputs]);
        assert!(matches!(got, Err(EngineError::Input(_))), "{got:?}");
    }
}

#[test]
fn sparse_rows_enter_a_batch_as_the_dense_ones_they_are() {
    for engine in engines() {
        let model = load(&*engine, "mlp", 8);
        let rows = SparseRows::new(16, (vec![3], vec![0.5]), vec![0, 1, 2], (vec![0, 15], vec![1.5, -2.0]));
        let sparse = Tensor::sparse(rows.unwrap()).unwrap();
        let dense = Tensor::dense(sparse.dtype(), *sparse.shape(), sparse.to_dense()).unwrap();
        let named = |tensor| vec![NamedTensor { name: "x".into(), tensor }];
        let outputs = run(&mut *model.instance().unwrap(), &[named(sparse), named(dense)]).unwrap();
        assert_close(&outputs.members[0], &outputs.members[1], 1e-7, "sparse");
    }
}

#[test]
fn a_value_that_the_model_cannot_take_costs_only_its_run() {
    for engine in engines() {
        let model = load(&*engine, "encoder", 8);
        let mut instance = model.instance().unwrap();
        let past_the_table = vec![crate::common::integers("ids", &[1, 2], &[0, 1_000_000])];
        assert!(run(&mut *instance, &[past_the_table]).is_err(), "{}", engine.describe());
        let golden = goldens("encoder").swap_remove(0);
        let got = run(&mut *instance, &[golden.inputs]).unwrap();
        assert_close(&got.members[0], &golden.outputs, 2e-6, "after");
    }
}
