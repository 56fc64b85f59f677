//! What is understood, what is refused and how, and that what is printed is what was parsed.

use proptest::prelude::*;

use super::ParameterKind::{Pointer, Scalar};
use super::*;

fn kinds(text: &str) -> Vec<ParameterKind> {
    let parameters = Parameter::parse_list(text).unwrap();
    parameters.into_iter().map(|parameter| parameter.kind).collect()
}

fn pointer(dtype: DType, writes: bool) -> ParameterKind {
    Pointer {
        dtype: Some(dtype),
        writes,
    }
}

#[test]
fn a_list_as_people_write_it() {
    let text =
        "const float* __restrict__ x, float *y, unsigned int n, __half h, long long k, size_t m, int8_t* p, bool b";
    let expected = [
        ("x", pointer(DType::F32, false)),
        ("y", pointer(DType::F32, true)),
        ("n", Scalar(DType::U32)),
        ("h", Scalar(DType::F16)),
        ("k", Scalar(DType::I64)),
        ("m", Scalar(DType::U64)),
        ("p", pointer(DType::I8, true)),
        ("b", Scalar(DType::Bool)),
    ];
    let parsed = Parameter::parse_list(text).unwrap();
    let parsed: Vec<_> = parsed
        .iter()
        .map(|parameter| (parameter.name.as_str(), parameter.kind))
        .collect();
    assert_eq!(parsed, expected);
}

#[test]
fn const_counts_where_it_is_of_the_elements() {
    for text in [
        "const float* x",
        "float const *x",
        "const float* const x",
        "volatile const float *__restrict x",
    ] {
        assert_eq!(kinds(text), [pointer(DType::F32, false)], "{text}");
    }
    for text in ["float* const x", "float * const __restrict__ x", "float*"] {
        assert_eq!(kinds(text), [pointer(DType::F32, true)], "{text}");
    }
    assert_eq!(
        kinds("const void*, void* x"),
        [false, true].map(|writes| Pointer { dtype: None, writes })
    );
    assert_eq!(kinds("const int n"), [Scalar(DType::I32)]);
}

#[test]
fn types_of_several_words_come_in_any_order() {
    for text in [
        "unsigned long long int",
        "long unsigned long",
        "long long unsigned n",
        "std::uint64_t n",
        "cuda::std::size_t",
    ] {
        assert_eq!(kinds(text), [Scalar(DType::U64)], "{text}");
    }
    for text in ["char signed", "signed char c", "char c"] {
        assert_eq!(kinds(text), [Scalar(DType::I8)], "{text}");
    }
    for text in ["short int a", "int short", "signed short int a"] {
        assert_eq!(kinds(text), [Scalar(DType::I16)], "{text}");
    }
    // A word that could go on with another type is a name behind one that cannot.
    assert_eq!(Parameter::parse_list("half half").unwrap()[0].name, "half");
    assert_eq!(kinds(""), []);
    assert_eq!(kinds(" void /* nothing */"), []);
}

#[test]
fn what_is_not_understood_is_refused_by_place_with_what_would_be() {
    for (text, words) in [
        (
            "float x, float2* y",
            "parameter 2 (float2 * y): the type \"float2\" is not understood; understood are bool,",
        ),
        ("long double x", "\"long double\" is not understood"),
        ("unsigned float x", "\"unsigned float\" is not understood"),
        ("struct Point p", "a structure"),
        ("void x", "\"void\" is not understood"),
        ("float** x", "a pointer to pointers"),
        ("float x[4]", "write it as a pointer"),
        ("const float& x", "a reference"),
        ("Vector<float> x", "a template"),
        ("int n = 3", "a default"),
        ("int n,", "parameter 2 (): there is no type"),
        ("float* x y", "y is not understood here"),
        ("float* x *", "* is not understood here"),
        ("float* 3x", "3x is not understood here"),
        ("float* (x)", "( is not understood here"),
        ("float : x", ": is not understood here"),
        ("const", "there is no type"),
    ] {
        let error = Parameter::parse_list(text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn every_dtype_has_a_name_in_c() {
    for &dtype in DType::ALL {
        for kind in [Scalar(dtype), pointer(dtype, false)] {
            let name = String::new();
            let text = Parameter { name, kind }.to_string();
            assert_eq!(kinds(&text), [kind], "{text}");
        }
    }
}

fn any_parameter() -> impl Strategy<Value = Parameter> {
    let dtype = proptest::sample::select(DType::ALL);
    let kind = prop_oneof![
        dtype.clone().prop_map(Scalar),
        (proptest::option::of(dtype), any::<bool>()).prop_map(|(dtype, writes)| Pointer { dtype, writes }),
    ];
    ("[a-z_][a-z0-9_]{5,8}|x?", kind).prop_map(|(name, kind)| Parameter { name, kind })
}

proptest! {
    /// Law: what is printed parses back.
    #[test]
    fn what_is_printed_parses_back(parameters in proptest::collection::vec(any_parameter(), 0..6)) {
        let is_a_word = |parameter: &Parameter| {
            SPECIFIERS.contains(&parameter.name.as_str()) || QUALIFIERS.contains(&parameter.name.as_str())
        };
        prop_assume!(!parameters.iter().any(is_a_word));
        let text = parameters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        prop_assert_eq!(Parameter::parse_list(&text).unwrap(), parameters);
    }

    /// Law: any text is parsed or refused, and what was parsed is printed as what parses to the same.
    #[test]
    fn any_text_is_parsed_or_refused(
        words in proptest::collection::vec("const|unsigned|long|struct|int|char|float|half|void|std|::|[*,&<=(]|__restrict__|x[1-9]|[ -~]|é", 0..12),
    ) {
        if let Ok(parameters) = Parameter::parse_list(&words.join(" ")) {
            let text = parameters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(Parameter::parse_list(&text).unwrap(), parameters);
        }
    }
}
