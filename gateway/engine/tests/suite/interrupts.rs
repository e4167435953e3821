//! Nobody waits for a run that nobody wants.

use std::sync::mpsc;
use std::time::Duration;

use sluice_engine::{EngineError, Instance, Interrupt};
use sluice_tensor::{DType, NamedTensor};

use crate::common::{engines, floats, goldens, load, onnxruntime, sim, tensor};

/// Far more than any run here takes once it is interrupted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a run that would last for hours, interrupts it, gives back its error and
/// the instance.
fn interrupted(
    mut instance: Box<dyn Instance>,
    inputs: Vec<NamedTensor>,
) -> (EngineError, Box<dyn Instance>) {
    let interrupt = Interrupt::default();
    let (started, is_started) = mpsc::sync_channel(1);
    let (ended, is_ended) = mpsc::sync_channel(1);
    let other = interrupt.clone();
    std::thread::spawn(move || {
        started.send(()).unwrap();
        let error = instance.run(&[&inputs], &other).err();
        ended.send((error, instance)).unwrap();
    });
    is_started.recv_timeout(PATIENCE).unwrap();
    // Lets the run begin; it is no less interrupted if it has not.
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_ended.try_recv().is_err(), "the run ended by itself");
    interrupt.trigger();
    let (error, instance) = is_ended.recv_timeout(PATIENCE).expect("the run ends");
    (error.expect("an interrupted run has no result"), instance)
}

fn rounds(count: i64) -> Vec<NamedTensor> {
    let rounds = tensor(DType::I64, &[], count.to_le_bytes().to_vec());
    vec![NamedTensor { name: "rounds".into(), tensor: rounds }, floats("x", &[64, 64], &[0.0; 4096])]
}

#[test]
fn an_interrupt_ends_a_run_in_onnxruntime_and_the_instance_goes_on() {
    let model = load(&*onnxruntime(), "spinning", 0);
    let (error, mut instance) = interrupted(model.instance().unwrap(), rounds(i64::MAX));
    assert!(matches!(error, EngineError::Interrupted), "{error:?}");
    let next = instance.run(&[&rounds(3)], &Interrupt::default());
    assert!(next.is_ok(), "{next:?}");
}

#[test]
fn an_interrupt_ends_a_hanging_simulated_run_and_the_instance_goes_on() {
    let model = sim(
        r#"{"inputs": [{"name": "x", "dtype": "FP32", "dims": [-1]}],
            "outputs": [{"name": "y", "rule": "echo", "from": "x"}],
            "faults": [{"when": {"run": 1}, "then": "hang"}]}"#,
        4,
    );
    let inputs = || vec![floats("x", &[1], &[1.0])];
    let (error, mut instance) = interrupted(model.instance().unwrap(), inputs());
    assert!(matches!(error, EngineError::Interrupted), "{error:?}");
    assert!(instance.run(&[&inputs()], &Interrupt::default()).is_ok());
}

#[test]
fn an_interrupt_before_the_run_keeps_it_from_starting() {
    let interrupt = Interrupt::default();
    interrupt.trigger();
    for engine in engines() {
        let model = load(&*engine, "mlp", 8);
        let inputs = goldens("mlp").swap_remove(0).inputs;
        let got = model.instance().unwrap().run(&[&inputs], &interrupt);
        assert!(matches!(got, Err(EngineError::Interrupted)), "{got:?}");
    }
}
