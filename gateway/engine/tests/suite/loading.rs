//! A file that is no model says so; an engine that is not there too.

use sluice_engine::{EngineChoice, EngineError, EngineKind, EngineSearch, Sim, select};

use crate::common::{engines, fixture, onnxruntime, options};

#[test]
fn a_damaged_file_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("mlp")).unwrap();
    let bad: [(&str, &[u8]); 4] = [
        ("text", b"this is no model"),
        ("empty", b""),
        ("half", &whole[..whole.len() / 2]),
        ("noise", &[0xa5; 999]),
    ];
    for engine in engines() {
        for (name, content) in bad {
            let file = folder.path().join(format!("{name}.onnx"));
            std::fs::write(&file, content).unwrap();
            let got = engine.load(&file, &options(8)).err();
            assert!(matches!(got, Some(EngineError::Corrupt(_))), "{name} on {:?}: {got:?}", engine.kind());
        }
    }
    let file = folder.path().join("bad.sim.json");
    std::fs::write(&file, "{").unwrap();
    assert!(matches!(
        sluice_engine::Engine::load(&Sim, &file, &options(8)).err(),
        Some(EngineError::Corrupt(_))
    ));
}

#[test]
fn a_missing_file_or_a_folder_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for engine in engines() {
        for file in [folder.path().join("none.onnx"), folder.path().to_owned()] {
            let got = engine.load(&file, &options(8)).err();
            assert!(matches!(got, Some(EngineError::Io(_))), "{:?}: {got:?}", engine.kind());
        }
    }
}

#[test]
fn the_choice_of_engine_is_made_and_explained() {
    // Once it is loaded, the process has it wherever one looks.
    let search = EngineSearch::default();
    let loaded = onnxruntime();
    for (choice, kind) in [
        (EngineChoice::Auto, EngineKind::OnnxRuntime),
        (EngineChoice::OnnxRuntime, EngineKind::OnnxRuntime),
        (EngineChoice::Embedded, EngineKind::Embedded),
        (EngineChoice::Sim, EngineKind::Sim),
    ] {
        let (engine, line) = select(choice, &search).unwrap();
        assert_eq!(engine.kind(), kind);
        assert!(line.starts_with(&engine.describe()), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
    assert!(loaded.describe().contains("libonnxruntime"), "{}", loaded.describe());
}
