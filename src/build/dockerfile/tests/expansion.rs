//! Variables, quotes and escapes.

use super::*;

fn lookup(name: &str) -> Option<&'static str> {
    match name {
        "v" => Some("value"),
        "e" => Some(""),
        "two" => Some("a  b"),
        "path" => Some("/usr/local/lib/libfoo.so.1"),
        "a" => Some("abcabc"),
        "star" => Some("x*y?z"),
        "lines" => Some("one\ntwo"),
        _ => None,
    }
}

#[test]
fn words_are_expanded() {
    for (word, expected) in [
        ("plain", "plain"),
        ("$v", "value"),
        ("${v}", "value"),
        ("$v.x", "value.x"),
        ("${v}x", "valuex"),
        ("$vx", ""),
        ("$u", ""),
        ("a$", "a$"),
        ("$/x", "$/x"),
        ("$1$12x", "x"),
        ("$$v", "v"),
        ("\\$v", "$v"),
        ("\\\\$v", "\\value"),
        ("'$v'", "$v"),
        ("\"$v\"", "value"),
        ("\"\\$v\"", "$v"),
        ("\"\\n\"", "\\n"),
        ("\"a\\\"b\"", "a\"b"),
        ("a\\nb", "anb"),
        ("'a\\nb'", "a\\nb"),
        ("'it'\"'\"'s'", "it's"),
        ("\"it's\"", "it's"),
        ("x\\", "x"),
        // Defaults.
        ("${v:-d}", "value"),
        ("${e:-d}", "d"),
        ("${u:-d}", "d"),
        ("${v-d}", "value"),
        ("${e-d}", ""),
        ("${u-d}", "d"),
        ("${v:+d}", "d"),
        ("${e:+d}", ""),
        ("${u:+d}", ""),
        ("${v+d}", "d"),
        ("${e+d}", "d"),
        ("${u+d}", ""),
        ("${v:?m}", "value"),
        ("${v?m}", "value"),
        ("${e?m}", ""),
        ("${u:-$v}", "value"),
        ("${u:-${w:-${v}}}", "value"),
        ("${u:-'$v'}", "$v"),
        ("${u:-\"$v\"}", "value"),
        ("${u:-a\\}b}", "a}b"),
        ("${u:-}", ""),
        ("é$v→", "évalue→"),
    ] {
        let found = expand(word, '\\', &lookup).map(|expanded| expanded.text);
        assert_eq!(found.as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn patterns_cut_and_replace() {
    for (word, expected) in [
        ("${path#*/}", "usr/local/lib/libfoo.so.1"),
        ("${path##*/}", "libfoo.so.1"),
        ("${path%.*}", "/usr/local/lib/libfoo.so"),
        ("${path%%.*}", "/usr/local/lib/libfoo"),
        ("${path#x}", "/usr/local/lib/libfoo.so.1"),
        ("${path%/*}", "/usr/local/lib"),
        ("${a#?}", "bcabc"),
        ("${a%c}", "abcab"),
        ("${a#*c}", "abc"),
        ("${a##*c}", ""),
        ("${a/b/X}", "aXcabc"),
        ("${a//b/X}", "aXcaXc"),
        ("${a//b/}", "acac"),
        ("${a/b*/X}", "aX"),
        ("${a//?/x}", "xxxxxx"),
        ("${path//\\//_}", "_usr_local_lib_libfoo.so.1"),
        ("${star#x\\*}", "y?z"),
        ("${star/\\?/!}", "x*y!z"),
        ("${star//\\*y/-}", "x-?z"),
        ("${a/z/X}", "abcabc"),
        ("${u#x}", ""),
        ("${u//a/b}", ""),
        ("${v/val/$e}", "ue"),
        ("${v#$u}", "value"),
        ("${a%$w*bc}", "abca"),
        ("${lines#*o}", "ne\ntwo"),
        ("${lines%e*}", "one\ntwo"),
    ] {
        let found = expand(word, '\\', &lookup).map(|expanded| expanded.text);
        assert_eq!(found.as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn the_escape_may_be_a_backtick() {
    for (word, expected) in [("C:\\x\\$v", "C:\\x\\value"), ("`$v", "$v"), ("\"`\"\"", "\""), ("``", "`")] {
        assert_eq!(expand(word, '`', &lookup).map(|expanded| expanded.text).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn what_cannot_be_expanded_says_why() {
    for (word, expected) in [
        ("\"x", "the quote \" is not closed"),
        ("'x", "the quote ' is not closed"),
        ("${v", "\"}\" is missing"),
        ("${", "\"}\" is missing"),
        ("${}", "name of a variable"),
        ("${:x}", "name of a variable"),
        ("${{v}}", "name of a variable"),
        ("${v:}", "\":}\" is no modifier"),
        ("${v:#a}", "\":#\" is no modifier"),
        ("${v^^}", "\"^\" is no modifier"),
        ("${v:-x", "\"}\" is missing"),
        ("${v/a}", "\"/\" is missing"),
        ("${v/a/b", "\"}\" is missing"),
        ("${u:?it must be given}", "u: it must be given"),
        ("${u?}", "u must not be unset"),
        ("${e:?}", "e must not be empty"),
        ("${v#\\x}", "no escape of a pattern"),
    ] {
        let error = expand(word, '\\', &lookup).unwrap_err();
        assert!(error.contains(expected), "{word}: {error}");
    }
}

#[test]
fn words_are_split_at_bare_blanks() {
    for (word, expected) in [
        ("a b", vec!["a", "b"]),
        ("$two", vec!["a", "b"]),
        ("\"$two\"", vec!["a  b"]),
        ("x$two", vec!["xa", "b"]),
        ("a\\ b 'c d'", vec!["a b", "c d"]),
        ("  ", vec![]),
        ("$u", vec![]),
    ] {
        assert_eq!(expand(word, '\\', &lookup).unwrap().words, expected, "{word}");
    }
}

#[test]
fn undefined_variables_are_named() {
    let undefined = |word: &str| expand(word, '\\', &lookup).unwrap().undefined.into_iter().collect::<Vec<_>>().join(" ");
    for (word, expected) in [("$v$e", ""), ("$x ${y}", "x y"), ("${x:-$y}", "y"), ("${x+a}", ""), ("'$x'", ""), ("${x%.*}", "x"), ("$x${x:-d}", "x")]
    {
        assert_eq!(undefined(word), expected, "{word}");
    }
}

#[test]
fn the_body_of_a_here_document_keeps_its_quotes() {
    for (text, expected) in
        [("a='$v' \"$v\"\n", "a='value' \"value\"\n"), ("it's\n", "it's\n"), ("\\$v\n", "$v\n"), ("a\\\\b\n", "a\\b\n"), ("${u:-d}\n", "d\n")]
    {
        assert_eq!(expand_body(text, &lookup).map(|expanded| expanded.text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn hostile_words_end_soon() {
    let big = "a".repeat(200 << 10);
    let huge = |name: &str| (name == "b").then_some(big.as_str());
    assert!(expand("$b$b", '\\', &huge).unwrap_err().contains("grows beyond"));
    assert!(expand(&format!("{}x{}", "${u:-".repeat(40), "}".repeat(40)), '\\', &huge).unwrap_err().contains("nested"));
    assert!(expand("${b//*a*a*a*z/x}", '\\', &huge).unwrap_err().contains("takes too long"));
    assert!(expand("${b//a/aaaa}", '\\', &huge).unwrap_err().contains("grows beyond"));
    assert_eq!(expand("${b##*a}", '\\', &huge).unwrap().text, "");
    assert_eq!(expand("${b%%a*}", '\\', &huge).unwrap().text, "");
}
