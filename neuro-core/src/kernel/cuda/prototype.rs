//! Kernels that CUDA C source declares, so that what is compiled here needs no signature beside it.
//!
//! It is read as text: macros are not unfolded, and both branches of an `#if` are seen. Who hides a kernel's declaration so gives its
//! signature himself.

use super::signature::{Parameter, list};
use super::tokens::{Token, tokens};

/// A declaration of a kernel.
#[derive(Debug)]
struct Kernel<'a> {
    name: &'a str,
    /// Its name in the code is its own name.
    is_c: bool,
    is_template: bool,
    parameters: Vec<Token<'a>>,
}

/// The parameters of the kernel of that name.
///
/// # Errors
/// Why it cannot be called by that name, or what is not understood of it.
pub(super) fn parameters_of(source: &str, name: &str) -> Result<Vec<Parameter>, String> {
    let kernels = kernels(&tokens(source));
    let found: Vec<&Kernel<'_>> = kernels.iter().filter(|kernel| kernel.name == name).collect();
    let Some(first) = found.first() else {
        let mut names: Vec<&str> = kernels.iter().map(|kernel| kernel.name).collect();
        names.dedup();
        let there = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        return Err(format!(
            "the source declares no kernel of this name (found: {there}); where a macro declares it, give its signature"
        ));
    };
    if found.iter().any(|kernel| kernel.is_template) {
        return Err("it is a template; name an instance of it when the source is compiled (CompileOptions::instance), and give \
                    its signature"
            .to_owned());
    }
    if !found.iter().any(|kernel| kernel.is_c) {
        return Err(
            "it is not extern \"C\", so that the compiler gives it another name; write extern \"C\" before __global__"
                .to_owned(),
        );
    }
    let parameters = list(&first.parameters)?;
    for other in &found[1..] {
        let kinds = |parameters: &[Parameter]| parameters.iter().map(|parameter| parameter.kind).collect::<Vec<_>>();
        if kinds(&list(&other.parameters)?) != kinds(&parameters) {
            return Err("it is declared more than once, with different parameters; give its signature".to_owned());
        }
    }
    Ok(parameters)
}

/// All that are declared, in their order.
fn kernels<'a>(tokens: &[Token<'a>]) -> Vec<Kernel<'a>> {
    let mut kernels = Vec::new();
    // Of each open brace, whether all within is C's.
    let mut braces: Vec<bool> = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(&token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Mark('{') => {
                braces.push(is_extern_c(&tokens[start..at - 1]));
                start = at;
            }
            Token::Mark('}') => {
                braces.pop();
                start = at;
            }
            Token::Mark(';') => start = at,
            Token::Word("__global__") => {
                let before = &tokens[start..at - 1];
                if let Some((name, parameters, end)) = declared(tokens, at) {
                    kernels.push(Kernel {
                        name,
                        is_c: is_extern_c(before) || braces.contains(&true),
                        is_template: before.contains(&Token::Word("template")),
                        parameters,
                    });
                    // The brace of its body is not that of a linkage.
                    start = end;
                    at = end;
                }
            }
            _ => {}
        }
    }
    kernels
}

fn is_extern_c(tokens: &[Token<'_>]) -> bool {
    tokens
        .windows(2)
        .any(|pair| pair == [Token::Word("extern"), Token::Text("C")])
}

/// What is declared from here to the next brace or semicolon: its name, its parameters, and where that ends. Attributes look like it,
/// and stand before it.
fn declared<'a>(tokens: &[Token<'a>], mut at: usize) -> Option<(&'a str, Vec<Token<'a>>, usize)> {
    let mut found = None;
    while let Some(&token) = tokens.get(at) {
        match (token, tokens.get(at + 1)) {
            (Token::Mark('{' | ';'), _) => break,
            (Token::Word(word), Some(Token::Mark('('))) => {
                let end = closed(tokens, at + 1)?;
                if !is_attribute(word) {
                    found = Some((word, tokens[at + 2..end].to_vec()));
                }
                at = end + 1;
            }
            (Token::Mark('(' | '['), _) => at = closed(tokens, at)? + 1,
            _ => at += 1,
        }
    }
    found.map(|(name, parameters)| (name, parameters, at))
}

/// `__launch_bounds__`, `__attribute__`, `__declspec`, `alignas`: names that start like that are the compiler's.
fn is_attribute(word: &str) -> bool {
    word.starts_with("__") || word == "alignas"
}

/// Where the parenthesis or bracket that opens at `at` is closed.
fn closed(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark('(' | '[') => depth += 1,
            Token::Mark(')' | ']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(place);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = r#"
#include <cuda_fp16.h>
#define FAKE extern "C" __global__ void fake(int)
// extern "C" __global__ void commented(int);
/* __global__ void too(int); */
extern "C" __global__ void plain(const float* x /* in */, float *y, unsigned n) { if (n) { y[0] = x[0]; } }
extern "C" __global__ __launch_bounds__(256, (1 + 1)) void bounded(int n);
extern "C" void __global__ __attribute__((used)) turned(double d) {}
extern "C" {
    __device__ float helper(float x) { return x; }
    __global__ void inside(void) { const char* s = "__global__ void text(int) {"; }
    [[maybe_unused]] static __global__ void MY_BOUNDS(4) macro(__half* h) {}
}
__global__ void mangled(int n) {}
template <typename T, int N = 3> __global__ void generic(T* x) {}
extern "C" __global__ void twice(int n);
extern "C" __global__ void twice(int m) {}
extern "C" __global__ void changed(int n);
__global__ void changed(float n) {}
extern "C" __global__ void odd(float2 x) {}
"#;

    #[test]
    fn kernels_are_found_where_c_has_them() {
        for (name, parameters) in [
            ("plain", "const float* x, float* y, unsigned int n"),
            ("bounded", "int n"),
            ("turned", "double d"),
            ("inside", ""),
            ("macro", "__half* h"),
            ("twice", "int n"),
        ] {
            let found = parameters_of(SOURCE, name).unwrap();
            let text: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(text.join(", "), parameters, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_called_by_its_name_says_why() {
        for (name, words) in [
            ("fake", "found: plain, bounded, turned, inside, macro, mangled"),
            ("commented", "no kernel of this name"),
            ("text", "no kernel of this name"),
            ("helper", "no kernel of this name"),
            ("mangled", "not extern \"C\""),
            ("generic", "it is a template"),
            ("changed", "with different parameters"),
            ("odd", "parameter 1 (float2 x): the type \"float2\""),
        ] {
            let why = parameters_of(SOURCE, name).unwrap_err();
            assert!(why.contains(words), "{name}: {why}");
        }
        assert!(parameters_of("", "f").unwrap_err().contains("found: none"));
        assert!(parameters_of("__global__ void f(int", "f").is_err());
    }

    proptest! {
        /// Law: no text makes it panic.
        #[test]
        fn any_text_is_searched(
            words in proptest::collection::vec("__global__|extern|\"C\"|void|template|f|[(){};,\\[\\]<]|int n|//|/\\*|\n|é", 0..30),
        ) {
            let _ = parameters_of(&words.join(" "), "f");
        }
    }
}
