//! The text form: what is read, and what is refused where.

use proptest::prelude::*;

use super::*;

fn field(text: &str) -> Value {
    parse(text).expect(text).fields.into_iter().next().expect("a field").value
}

fn refused(text: &str) -> (usize, usize, String) {
    let error = parse(text).expect_err(text);
    (error.at.line, error.at.column, error.message)
}

#[test]
fn every_form_of_a_field_is_read() {
    let text = "# a comment\nname: \"a\" ; max_batch_size: 8, dims: [ 1, -1 ]\ninput [ { x: 1 }, < x: 2 > ]\n\
                output { y: TYPE_FP32 } output: { y: 0x1f }\n";
    let message = parse(text).expect("valid");
    let names: Vec<&str> = message.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["name", "max_batch_size", "dims", "input", "output", "output"]);
    let Value::List(dims) = &message.fields[2].value else { panic!("a list") };
    assert_eq!(dims[1].1, Value::Word("-1".to_owned()));
    assert_eq!(message.fields[3].at, Position { line: 3, column: 1 });
    assert_eq!(field("x: - 3"), Value::Word("-3".to_owned()));
    assert_eq!(field("x: 1.5e-3"), Value::Word("1.5e-3".to_owned()));
    assert_eq!(field("x: []"), Value::List(vec![]));
}

#[test]
fn strings_are_joined_and_their_escapes_resolved() {
    let text = "x: \"a\\n\\\"\" # here\n 'b\\x41\\101\\u00e9'";
    assert_eq!(field(text), Value::Text("a\n\"bAA\u{e9}".to_owned()));
    for bad in [
        r#"x: "\q""#,
        r#"x: "\x""#,
        r#"x: "\777""#,
        r#"x: "\ud800""#,
        r#"x: "\u12""#,
        r#"x: "\xff""#,
        "x: \"\\",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(refused("x: 1\ny: \"abc\nz\"").0, 2);
}

#[test]
fn an_error_says_its_line_and_column() {
    assert_eq!(refused("a: 1\n  b 2"), (2, 5, "expected ':' or '{' after 'b'".to_owned()));
    assert_eq!(refused("a { b: 1"), (1, 9, "expected '}', found the end of the text".to_owned()));
    assert_eq!(refused("a: [1 2]"), (1, 7, "expected ',' or ']' in a list".to_owned()));
    assert_eq!(refused("a: [[1]]").2, "a list cannot stand in a list");
    assert_eq!(refused("[a.b]: 1").2, "extensions are not supported");
    assert_eq!(refused("a: }").2, "expected a value, found '}'");
    assert_eq!(refused("é: 1").1, 1);
}

#[test]
fn nesting_and_size_are_bounded() {
    let deep = "a{".repeat(100_000);
    assert!(refused(&deep).2.contains("nested deeper"));
    let long = format!("a: [{}1]", "1,".repeat(200_000));
    assert!(refused(&long).2.contains("more than 100000 values"));
    assert!(refused(&"#".repeat(PBTXT_BYTES_MAX + 1)).2.contains("allowed are"));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,400}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_soup_of_tokens_panics(tokens in proptest::collection::vec(
        prop_oneof![Just("a"), Just("{"), Just("}"), Just("<"), Just(">"), Just("["), Just("]"), Just(":"), Just(","),
            Just("\""), Just("'"), Just("\\x"), Just("\\u"), Just("1"), Just("-"), Just("1e"), Just("+"), Just(" "),
            Just("\n"), Just("#"), Just("é"), Just("dims"), Just(";")], 0..60)) {
        let text: String = tokens.concat();
        if let Err(error) = parse(&text) {
            prop_assert!(error.at.line >= 1 && error.at.column >= 1);
        }
    }

    #[test]
    fn any_string_comes_back(text in "\\PC{0,60}") {
        let quoted: String = text.chars().map(|it| match it { '"' | '\\' => format!("\\{it}"), it => it.to_string() }).collect();
        prop_assert_eq!(field(&format!("x: \"{quoted}\"")), Value::Text(text));
    }
}
