//! Tensors in JSON, flat and nested, and what is refused.

use super::*;

fn decoded(dtype: DType, dims: &[u64], json: &str) -> std::result::Result<Vec<u8>, Kind> {
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| Kind::BadJson)?;
    decode(dtype, dims, raw).map(|tensor| tensor.to_dense().to_vec()).map_err(|error| error.kind())
}

#[test]
fn flat_and_nested_data_mean_the_same() {
    let flat = decoded(DType::F32, &[2, 2], "[1, 2.5, -3, 4e0]").expect("valid");
    let nested = decoded(DType::F32, &[2, 2], "[[1, 2.5], [-3, 4e0]]").expect("valid");
    assert_eq!(flat, nested);
    assert_eq!(flat, [1f32, 2.5, -3.0, 4.0].map(f32::to_le_bytes).concat());
    assert_eq!(decoded(DType::F32, &[0, 2], "[]").expect("valid"), [0u8; 0]);
}

#[test]
fn elements_that_do_not_fit_are_refused_by_kind() {
    let cases = [
        (DType::U8, "[300]", Kind::BadDtype),
        (DType::I32, "[1.5]", Kind::BadDtype),
        (DType::I32, "[true]", Kind::BadDtype),
        (DType::F32, "[1e39]", Kind::BadDtype),
        (DType::F32, "[1e400]", Kind::BadJson),
        (DType::F32, "[null]", Kind::BadJson),
        (DType::F32, "[\"1\"]", Kind::BadDtype),
        (DType::Bytes, "[1]", Kind::BadDtype),
        (DType::Bool, "[2]", Kind::BadDtype),
        (DType::F32, "[1,2]", Kind::BadLength),
        (DType::F32, "[]", Kind::BadLength),
        (DType::F32, "1", Kind::BadJson),
        (DType::F32, "[NaN]", Kind::BadJson),
    ];
    for (dtype, json, kind) in cases {
        assert_eq!(decoded(dtype, &[1], json), Err(kind), "{dtype} {json}");
    }
    assert_eq!(decoded(DType::F32, &[1 << 31, 1 << 31, 4], "[]"), Err(Kind::BadShape));
    assert_eq!(decoded(DType::F32, &[1 << 40], "[]"), Err(Kind::TooLarge));
}

#[test]
fn every_double_is_read_as_what_it_says() {
    // Each is read as its neighbour where digits and exponent are only multiplied.
    let texts = [
        "1.2914093049556856e-298",
        "-8.908895912187967e+114",
        "7.419590906845888e90",
        "1.7879812427305979e-56",
    ];
    let more = [
        "9007199254740993",
        "0.30000000000000004",
        "4.9e-324",
        "1.7976931348623157e308",
        "-0.0",
        "-0",
        "1e-400",
    ];
    for text in texts.iter().chain(&more) {
        let wanted: f64 = text.parse().expect("a number");
        let read = decoded(DType::F64, &[1], &format!("[{text}]"));
        assert_eq!(read, Ok(wanted.to_le_bytes().to_vec()), "{text}");
    }
}

#[test]
fn minus_zero_is_zero_where_numbers_are_whole() {
    for dtype in [DType::U8, DType::I64] {
        let read = decoded(dtype, &[2], "[-0, 0]").expect("zeros");
        assert!(read.iter().all(|byte| *byte == 0), "{dtype}");
    }
}

#[test]
fn depth_is_counted_outside_of_strings_only() {
    assert!(check_depth(br#"{"a":"[[[[\"[[["}"#, 1).is_ok());
    assert!(check_depth(b"[[1],[2]]", 2).is_ok());
    assert_eq!(check_depth(&[b'['; 250_000], 64).map_err(|error| error.kind()), Err(Kind::LimitDepth));
}

#[test]
fn an_answer_that_json_cannot_carry_is_an_error() {
    let shape = Shape::new(&[1]).expect("fits");
    let nan = Tensor::from_f32(shape, &[f32::NAN]).expect("valid");
    let outputs = [NamedTensor { name: "y".into(), tensor: nan }];
    let encoded = encode_all(&outputs, |_| DataForm::Json, &mut Vec::new());
    assert_eq!(encoded.map_err(|error| error.kind()), Err(Kind::Engine));
}
