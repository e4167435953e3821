//! `[models.X.sequence]`.

use std::time::Duration;

use super::example_tests::uncommented;
use super::file::{SequenceControlFile, SequenceFile, SequenceStateFile};
use super::tests::{Folder, fields};
use super::{ControlKind, FalseTrue, SequenceStrategy};

#[test]
fn every_key_of_a_sequence_is_in_the_example_file_and_its_defaults_are_the_real_ones() {
    let text = uncommented();
    let all = [fields::<SequenceFile>(), fields::<SequenceControlFile>(), fields::<SequenceStateFile>()];
    for key in all.into_iter().flatten() {
        let is_there = text.contains(&format!("{key} = ")) || text.contains(&format!("sequence.{key}"));
        assert!(is_there, "{key} is not in config/sluice.toml");
    }
    let folder = Folder::new();
    let shown = folder.load(&text).expect("is fine");
    let bare = "[models.m]\nfile = \"m.onnx\"\n[models.m.sequence]\nstrategy = ";
    for (strategy, name) in [("\"direct\"", "stateful"), ("\"oldest\"", "stateful-oldest")] {
        let mut real =
            folder.load(&format!("{bare}{strategy}")).expect("is fine").models["m"].sequence.clone();
        let shown = shown.models[name].sequence.clone().expect("has sequences");
        let real = real.as_mut().expect("has sequences");
        // These have no default: the file shows an example.
        real.controls.clone_from(&shown.controls);
        real.states.clone_from(&shown.states);
        assert_eq!(*real, shown, "{name}");
    }
}

#[test]
fn a_sequence_is_what_the_file_says() {
    let folder = Folder::new();
    let loaded = folder.load(
        "[models.m]\nfile = \"m.onnx\"\nmax_batch_size = 8\n[models.m.sequence]\nstrategy = \"oldest\"\n\
         max_candidate_sequences = 5\npreferred_batch_size = [4, 2]\nmax_queue_delay_microseconds = 7\n\
         max_sequence_idle_microseconds = 9\n[models.m.sequence.controls.E]\nkind = \"end\"\n\
         bool_false_true = [false, true]\n[models.m.sequence.states.S]\noutput = \"T\"\ndims = [1]\n\
         datatype = \"UINT8\"\ninitial_file = \"state.bin\"\n",
    );
    let sequence = loaded.expect("is fine").models["m"].sequence.clone().expect("has sequences");
    let expected = SequenceStrategy::Oldest { max_candidate_sequences: 5, preferred_batch_sizes: vec![2, 4] };
    assert_eq!(sequence.strategy, expected);
    let times = (sequence.max_queue_delay, sequence.max_idle);
    assert_eq!(times, (Duration::from_micros(7), Duration::from_micros(9)));
    let control = &sequence.controls[0];
    assert_eq!((&*control.input, control.kind), ("E", ControlKind::End));
    assert_eq!(control.false_true, Some(FalseTrue::Bool([false, true])));
    assert_eq!(sequence.states[0].initial.as_deref(), Some(b"x".as_slice()));
    assert_eq!(sequence.slots(8), 5);
}

#[test]
fn what_a_sequence_cannot_be_is_told_by_key() {
    let folder = Folder::new();
    let problems = folder.problems(
        "[models.m]\nfile = \"m.onnx\"\nmax_queue_delay_microseconds = 5\ninstances = 64\nmax_batch_size = 4096\n\
         [models.m.sequence]\nstrategy = \"direct\"\nmax_candidate_sequences = 4\nminimum_slot_utilization = 1.5\n\
         max_sequence_idle_microseconds = 0\nstate_bytes_max = 0\n[models.m.sequence.controls.A]\n\
         [models.m.sequence.controls.B]\nkind = \"corrid\"\nint32_false_true = [0, 1]\nbool_false_true = [false, true]\n\
         [models.m.sequence.states.S]\ndatatype = \"FLOAT\"\ninitial_file = \"none.bin\"\n",
    );
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "max_queue_delay_microseconds",
        "max_candidate_sequences",
        "minimum_slot_utilization",
        "max_sequence_idle_microseconds",
        "state_bytes_max",
        "controls.A.kind",
        "two ways to write",
        "neither false nor true",
        "states.S.output",
        "states.S.datatype",
        "initial_file",
        "room for 262144 sequences",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
