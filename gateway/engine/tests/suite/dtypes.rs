//! Every data type goes through as it is, or is refused: never silently changed.

use half::{bf16, f16};
use sluice_engine::{Embedded, Engine, EngineError};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor};

use crate::common::{fixture, integers, load, onnxruntime, options, run, run_alone, tensor};

/// Two rows of two elements, with the type's extremes among them.
fn sample(dtype: DType) -> Tensor {
    macro_rules! bytes {
        ($($value:expr),*) => { [$($value.to_le_bytes().to_vec()),*].concat() };
    }
    let data = match dtype {
        DType::Bool => vec![1, 0, 0, 1],
        DType::U8 => vec![0, 1, 127, 255],
        DType::U16 => bytes!(0u16, 1u16, 256u16, u16::MAX),
        DType::U32 => bytes!(0u32, 1u32, 65_536u32, u32::MAX),
        DType::U64 => bytes!(0u64, 1u64, 1u64 << 40, u64::MAX),
        DType::I8 => bytes!(0i8, 1i8, i8::MIN, i8::MAX),
        DType::I16 => bytes!(0i16, -1i16, i16::MIN, i16::MAX),
        DType::I32 => bytes!(0i32, -1i32, i32::MIN, i32::MAX),
        DType::I64 => bytes!(0i64, -1i64, i64::MIN, i64::MAX),
        DType::F16 => bytes!(f16::ONE, f16::MIN, f16::MAX, f16::MIN_POSITIVE_SUBNORMAL),
        DType::Bf16 => bytes!(bf16::ONE, bf16::MIN, bf16::MAX, bf16::MIN_POSITIVE),
        DType::F32 => bytes!(1.5f32, f32::MIN, f32::MAX, f32::INFINITY),
        DType::F64 => bytes!(1.5f64, f64::MIN, f64::MAX, 0.1f64),
        DType::Bytes => {
            let words = [b"".as_slice(), "caf\u{e9}".as_bytes(), b"a\0b", &[0xff, 0xfe]];
            return Tensor::from_strings(Shape::new(&[2, 2]).unwrap(), words.into_iter()).unwrap();
        }
    };
    tensor(dtype, &[2, 2], data)
}

fn file_name(dtype: DType) -> String {
    let short = match dtype {
        DType::Bool => "bool",
        DType::U8 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::F16 => "f16",
        DType::Bf16 => "bf16",
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::Bytes => "bytes",
    };
    format!("identity_{short}")
}

fn member(tensor: Tensor) -> Vec<NamedTensor> {
    vec![NamedTensor { name: "x".into(), tensor }]
}

#[test]
fn onnxruntime_passes_every_data_type_through_bit_for_bit() {
    let engine = onnxruntime();
    for dtype in DType::all() {
        let model = load(&*engine, &file_name(dtype), 8);
        assert_eq!(model.signature().inputs[0].dtype, dtype);
        let sample = sample(dtype);
        let first = sample.rows(1, 1).unwrap();
        let got =
            run(&mut *model.instance().unwrap(), &[member(first.clone()), member(sample.clone())]).unwrap();
        assert_eq!(got.members[0][0].tensor, first, "{dtype}");
        assert_eq!(got.members[1][0].tensor, sample, "{dtype}");
    }
}

#[test]
fn the_embedded_engine_passes_through_what_it_takes_bit_for_bit() {
    for dtype in [DType::Bool, DType::U8, DType::U16, DType::I8, DType::I16, DType::F32] {
        let model = load(&Embedded, &file_name(dtype), 8);
        assert_eq!(model.signature().inputs[0].dtype, dtype);
        let sample = sample(dtype);
        let first = sample.rows(1, 1).unwrap();
        let got =
            run(&mut *model.instance().unwrap(), &[member(first.clone()), member(sample.clone())]).unwrap();
        assert_eq!(got.members[0][0].tensor, first, "{dtype}");
        assert_eq!(got.members[1][0].tensor, sample, "{dtype}");
    }
    // The wider integers up to what 32 bits hold; i32 itself whole.
    let whole = sample(DType::I32);
    let got = run_alone(&*load(&Embedded, "identity_i32", 8), member(whole.clone())).unwrap();
    assert_eq!(got[0].tensor, whole);
    let model = load(&Embedded, "identity_i64", 8);
    let fits = integers("x", &[1, 2], &[2_147_483_646, -2_147_483_646]);
    assert_eq!(run_alone(&*model, vec![fits.clone()]).unwrap()[0].tensor, fits.tensor);
}

#[test]
fn the_embedded_engine_refuses_integers_beyond_32_bits_at_the_request() {
    for dtype in [DType::I64, DType::U64, DType::U32] {
        let model = load(&Embedded, &file_name(dtype), 8);
        let got = run_alone(&*model, member(sample(dtype)));
        assert!(matches!(got, Err(EngineError::Input(_))), "{dtype}: {got:?}");
    }
    let model = load(&Embedded, "ranker", 8);
    let mut inputs = crate::common::goldens("ranker").swap_remove(0).inputs;
    inputs[1] = integers("sparse", &[1, 5], &[0, 1, 2, 3, (1 << 32) + 4]);
    // Cut down to 32 bits this is id 4, and a wrong answer.
    assert!(matches!(run_alone(&*model, inputs), Err(EngineError::Input(_))));
}

#[test]
fn the_embedded_engine_refuses_at_load_what_it_would_compute_in_another_type() {
    for dtype in [DType::F16, DType::Bf16, DType::F64, DType::Bytes] {
        let got = Embedded.load(&fixture(&file_name(dtype)), &options(8)).err();
        assert!(matches!(got, Some(EngineError::Unsupported(_))), "{dtype}: {got:?}");
    }
}

#[test]
fn arithmetic_on_ids_is_right_or_refused() {
    let exact = load(&*onnxruntime(), "hashing", 8);
    let embedded = load(&Embedded, "hashing", 8);
    let ask = |id: i64| vec![integers("ids", &[1], &[id])];
    for id in [0, 1, 996, 2_000_000, -5] {
        let want = run_alone(&*exact, ask(id)).unwrap();
        assert_eq!(run_alone(&*embedded, ask(id)).unwrap()[0].tensor, want[0].tensor, "{id}");
    }
    // Times 1000 these leave 32 bits, though they themselves fit.
    for id in [2_200_000, i64::from(i32::MAX)] {
        assert!(run_alone(&*exact, ask(id)).is_ok());
        assert!(matches!(run_alone(&*embedded, ask(id)), Err(EngineError::Input(_))), "{id}");
    }
    let squaring = Embedded.load(&fixture("squaring"), &options(8)).err();
    assert!(matches!(squaring, Some(EngineError::Unsupported(_))), "{squaring:?}");
}

#[test]
fn what_no_tensor_here_can_hold_is_refused_at_load() {
    for engine in crate::common::engines() {
        for name in ["identity_f8", "sequence"] {
            let got = engine.load(&fixture(name), &options(8)).err();
            assert!(matches!(got, Some(EngineError::Unsupported(_))), "{name}: {got:?}");
        }
    }
}
