//! Any text is read or refused, and every span lies within it.

use super::*;
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, so that random ones get somewhere.
const PIECES: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "LABEL ",
    "SHELL ",
    "EXPOSE ",
    "VOLUME ",
    "CMD ",
    "AS ",
    "\n",
    "\n",
    "\r\n",
    "\\\n",
    " ",
    "\t",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "E\n",
    "--mount=type=cache,target=/x",
    "--from=a",
    "--chown=$x",
    "--interval=1s",
    "[\"a\"]",
    "[",
    "\"",
    "'",
    "\\",
    "`",
    "$",
    "${a:-",
    "${a//b/",
    "}",
    "a=b",
    "=",
    "a",
    "é",
    "\u{feff}",
    "NONE",
    "--",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

fn inside(source: &Source, span: Span) {
    assert!(span.start <= span.end && source.text().get(span.start..span.end).is_some(), "{span:?} of {:?}", source.text());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(pieces in prop::collection::vec(piece(), 0..60), from in any::<bool>()) {
        let text = format!("{}{}", if from { "FROM a\n" } else { "" }, pieces.concat());
        match parse(text.as_bytes(), "f") {
            Err(fault) => {
                let lines = text.split('\n').count();
                prop_assert!(fault.place().line >= 1 && fault.place().line <= lines);
                prop_assert!(fault.render().contains(fault.message()));
            }
            Ok(file) => {
                for stage in &file.stages {
                    inside(&file.source, stage.span);
                    inside(&file.source, stage.base.span);
                    for statement in &stage.instructions {
                        inside(&file.source, statement.span);
                        inside(&file.source, statement.keyword.span);
                        prop_assert_eq!(file.source.slice(statement.keyword.span), &statement.keyword.text);
                        if let Instruction::Env(pairs) = &statement.instruction {
                            for pair in pairs {
                                inside(&file.source, pair.key.span);
                                inside(&file.source, pair.value.span);
                            }
                        }
                        if let Instruction::Onbuild(trigger) = &statement.instruction
                            && file.directives.escape() == '\\'
                        {
                            prop_assert!(parse_trigger(&trigger.text, "t").is_ok(), "{:?}", trigger.text);
                        }
                    }
                }
                for warning in &file.warnings {
                    inside(&file.source, warning.span);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(parse(&bytes, "f"));
    }

    #[test]
    fn any_word_is_expanded_or_refused(pieces in prop::collection::vec(piece(), 0..30), backtick in any::<bool>()) {
        let word = pieces.concat();
        let escape = if backtick { '`' } else { '\\' };
        if let Ok(expanded) = expand(&word, escape, &|name| (name == "a").then_some("a b*")) {
            prop_assert!(expanded.words.iter().all(|word| !word.is_empty() && expanded.text.contains(word.as_str())));
        }
    }

    #[test]
    fn what_is_quoted_comes_back(text in "[^'\0]{0,40}") {
        prop_assert_eq!(expand(&format!("'{text}'"), '\\', &|_| None).unwrap().text, text);
    }
}
