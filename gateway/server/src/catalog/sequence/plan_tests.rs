//! Inputs and outputs of a batch of sequences, by hand.

use super::*;
use crate::config::{Control, FalseTrue, Sequence, SequenceState, SequenceStrategy};

fn spec(name: &str, dtype: DType, dims: &[i64]) -> TensorSpec {
    let dim = |dim: &i64| usize::try_from(*dim).map_or(Dim::Any(None), Dim::Fixed);
    TensorSpec { name: name.into(), dtype, dims: dims.iter().map(dim).collect() }
}

fn file() -> Signature {
    Signature {
        inputs: vec![
            spec("START", DType::F32, &[-1, 1]),
            spec("x", DType::I32, &[-1, 2]),
            spec("READY", DType::I32, &[-1, 1]),
            spec("ID", DType::Bytes, &[-1]),
            spec("past", DType::I32, &[-1, -1]),
        ],
        outputs: vec![spec("present", DType::I32, &[-1, -1]), spec("y", DType::I32, &[-1, 2])],
    }
}

fn control(input: &str, kind: ControlKind, false_true: Option<FalseTrue>) -> Control {
    Control { input: input.into(), kind, false_true, dtype: None }
}

fn config() -> Sequence {
    Sequence {
        strategy: SequenceStrategy::Direct { minimum_slot_utilization: 0.0 },
        max_idle: std::time::Duration::from_secs(1),
        max_queue_delay: std::time::Duration::ZERO,
        controls: vec![
            control("START", ControlKind::Start, Some(FalseTrue::Fp32([-1.0, 2.0]))),
            control("READY", ControlKind::Ready, None),
            control("ID", ControlKind::Corrid, None),
        ],
        states: vec![SequenceState {
            input: "past".into(),
            output: "present".into(),
            dtype: Some(DType::I32),
            dims: None,
            initial: None,
        }],
        state_bytes_max: 16,
    }
}

fn ints(dims: &[usize], values: &[i32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::dense(DType::I32, Shape::new(dims).expect("fits"), data.into()).expect("valid")
}

fn named(name: &str, tensor: Tensor) -> NamedTensor {
    NamedTensor { name: name.into(), tensor }
}

#[test]
fn clients_see_neither_controls_nor_states() {
    let (_, seen) = Plan::new(&config(), &file(), true).expect("fits");
    let names = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&seen.inputs), names(&seen.outputs)), (vec!["x".to_owned()], vec!["y".to_owned()]));
}

#[test]
fn a_batch_has_each_members_row_and_rows_of_nobody_are_not_ready() {
    let (plan, _) = Plan::new(&config(), &file(), true).expect("fits");
    let (one, two) = ([named("x", ints(&[1, 2], &[1, 2]))], [named("x", ints(&[1, 2], &[3, 4]))]);
    let id = plan.encode_id(&SequenceId::Text("b".into())).expect("fits");
    let state: State = vec![ints(&[1, 1], &[9])].into();
    let row = |place, inputs, start, state| Row { place, inputs, id: &id, start, end: false, state };
    let rows = [row(0, one.as_slice(), true, None), row(2, two.as_slice(), false, Some(&state))];
    let inputs = plan.gather(3, &rows).expect("fits");
    let floats: Vec<f64> = inputs[0].tensor.to_f64().expect("numbers");
    assert_eq!(floats, [2.0, -1.0, -1.0], "START");
    assert_eq!(inputs[1].tensor, ints(&[3, 2], &[1, 2, 0, 0, 3, 4]));
    assert_eq!(inputs[2].tensor, ints(&[3, 1], &[1, 0, 1]), "READY");
    let ids: Vec<&[u8]> = inputs[3].tensor.strings().expect("strings").collect();
    assert_eq!(ids, [b"b".as_slice(), b"", b"b"]);
    assert_eq!(inputs[4].tensor, ints(&[3, 1], &[0, 0, 9]), "zeros at the start, else what is remembered");
    // What is remembered has grown in one of them only: they share no batch.
    let grown: State = vec![ints(&[1, 2], &[9, 9])].into();
    assert!(
        plan.gather(3, &[row(0, one.as_slice(), true, None), row(2, two.as_slice(), false, Some(&grown))])
            .is_err()
    );
}

#[test]
fn what_is_remembered_is_a_copy_of_its_own_and_bounded() {
    let (plan, _) = Plan::new(&config(), &file(), true).expect("fits");
    let present = named("present", ints(&[2, 2], &[1, 2, 3, 4]));
    let outputs = [present, named("y", ints(&[2, 2], &[5, 6, 7, 8]))];
    let (seen, state) = plan.scatter(&outputs, 1).expect("fits");
    assert_eq!((seen.len(), &seen[0].tensor), (1, &ints(&[1, 2], &[7, 8])));
    assert_eq!(state[0], ints(&[1, 2], &[3, 4]));
    let batch = outputs[0].tensor.to_dense();
    assert!(!batch.as_ptr_range().contains(&state[0].to_dense().as_ptr()), "it keeps the batch's memory");
    let large = [named("present", ints(&[1, 5], &[0; 5])), named("y", ints(&[1, 2], &[0; 2]))];
    assert!(matches!(plan.scatter(&large, 0), Err(Unfit::TooLarge { bytes: 20, max: 16 })));
    let wrong = [named("present", ints(&[1], &[0])), named("y", ints(&[1, 2], &[0; 2]))];
    assert!(matches!(plan.scatter(&wrong, 0), Err(Unfit::Wrong(_))));
}

#[test]
fn a_configuration_that_does_not_fit_the_model_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Sequence)| {
        let mut config = config();
        change(&mut config);
        Plan::new(&config, &file(), true).map(drop).expect_err("refused")
    };
    assert!(refused(&|it| it.controls[0].input = "NO".into()).contains("no input 'NO'"));
    assert!(refused(&|it| it.controls[0].input = "READY".into()).contains("used twice"));
    assert!(refused(&|it| it.controls[0].kind = ControlKind::Ready).contains("two control inputs"));
    assert!(
        refused(&|it| it.controls[0].false_true = None::<FalseTrue>.or(Some(FalseTrue::Int32([0, 1]))))
            .contains("FP32")
    );
    assert!(refused(&|it| it.controls[0].kind = ControlKind::Corrid).contains("two control inputs"));
    assert!(refused(&|it| it.states[0].output = "no".into()).contains("no output 'no'"));
    assert!(refused(&|it| it.states[0].dtype = Some(DType::F32)).contains("declared as FP32"));
    assert!(refused(&|it| it.states[0].dims = Some(vec![2, 2])).contains("shape"));
    assert!(refused(&|it| it.states[0].initial = Some(Bytes::from_static(&[0; 3]))).contains("past"));
    assert!(refused(&|it| it.states[0].dims = Some(vec![5])).contains("state_bytes_max"));
}
