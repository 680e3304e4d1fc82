//! Directives, comments, continuations, here-documents and places.

use super::*;
use crate::build::dockerfile::source::Place;

#[test]
fn lines_are_joined() {
    for (text, expected) in [
        ("FROM a\nRUN x\n", "x"),
        ("FROM a\nRUN x \\\n  y", "x   y"),
        ("FROM a\nRUN x\\\ny\n", "xy"),
        ("FROM a\nRUN x \\ \t\n y\n", "x  y"),
        ("FROM a\r\nRUN x \\\r\n y\r\n", "x  y"),
        ("FROM a\nRUN x \\\n# comment\n y\n", "x  y"),
        ("FROM a\nRUN x \\\n   # comment \\\n y\n", "x  y"),
        ("FROM a\nRUN x \\\n\n y\n", "x  y"),
        ("FROM a\nRUN x \\\n# c\n# d\n\n y # z\n", "x  y # z"),
        ("FROM a\nRUN x \\\\\nCMD y\n", "x \\\\"),
        ("FROM a\n   RUN x\n", "x"),
        ("FROM a\nRUN x \\", "x"),
        ("FROM a\nRUN \\\n x\n", "x"),
        ("FROM a\nRUN x \\\n \\\n y\n", "x   y"),
        ("FROM a\nRUN echo '# no comment'\n", "echo '# no comment'"),
        ("FROM a\nrun x\n", "x"),
        ("\u{feff}FROM a\nRUN x\n", "x"),
        ("#!/usr/bin/env rcon\nFROM a\nRUN x\n", "x"),
        ("# escape=`\nFROM a\nRUN x `\n y \\\n", "x  y \\"),
        ("#Escape = `\n\nFROM a\nRUN x\\\n", "x\\"),
        ("#!x\n# escape=`\nFROM a\nRUN x`\ny\n", "xy"),
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN x`\ny\n", "xy"),
        // A comment, an empty line or an unknown directive ends them.
        ("# hello\n# escape=`\nFROM a\nRUN x`\n", "x`"),
        ("\n# escape=`\nFROM a\nRUN x`\n", "x`"),
        ("# other=1\n# escape=`\nFROM a\nRUN x`\n", "x`"),
        ("FROM a\n# escape=`\nRUN x`\n", "x`"),
    ] {
        assert_eq!(shell_of(text), expected, "{text:?}");
    }
}

#[test]
fn directives_are_read() {
    let file = read_all("# syntax=docker/dockerfile:1\n# check=skip=A, B;error=true\nFROM a\n# check=skip=all\nRUN x\n");
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!((file.directives.check.skip.join("+"), file.directives.check.error), ("A+B".to_owned(), true));
    assert!(file.directives.check.skips("a") && !file.directives.check.skips("C"));
    assert!(file.stages[0].instructions[0].checks.as_ref().unwrap().skips("C"));
    for (text, expected) in [
        ("# escape=x\nFROM a\n", "Dockerfile:1:1: the escape is \\ or `, not \"x\""),
        ("# escape=`\n# escape=`\nFROM a\n", "Dockerfile:2:1: the directive escape may stand only once"),
        ("# syntax=a\n# syntax=b\nFROM a\n", "Dockerfile:2:1: the directive syntax may stand only once"),
        ("# check=foo=1\nFROM a\n", "Dockerfile:1:1: check option \"foo\" is not known: skip, error and experimental are"),
        ("# check=skip\nFROM a\n", "Dockerfile:1:1: check option \"skip\" is not KEY=VALUE"),
        ("FROM a\n# check=error=maybe\nRUN x\n", "Dockerfile:2:1: check option error is true or false, not \"maybe\""),
    ] {
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn empty_lines_within_are_warned_of() {
    let file = read_all("FROM a\nRUN x \\\n\n \n y\n");
    let [warning] = file.warnings.as_slice() else { unreachable!("{:?}", file.warnings) };
    assert_eq!((warning.rule, file.source.place(warning.span.start).line), ("NoEmptyContinuation", 3));
    assert!(read_all("FROM a\nRUN x \\\n# c\n y\n").warnings.is_empty());
}

#[test]
fn here_documents_are_read() {
    let form = |text: &str| match one(text) {
        Ok(Instruction::Run(run)) => run.form,
        other => unreachable!("{other:?}"),
    };
    let script = |text: &str| match form(text) {
        Form::Script(heredoc) => (heredoc.body(), heredoc.expand),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(script("RUN <<EOF\na\n# kept\n\n b \\\nEOF"), ("a\n# kept\n\n b \\\n".to_owned(), true));
    assert_eq!(script("RUN <<'EOF'\n$a\nEOF"), ("$a\n".to_owned(), false));
    assert_eq!(script("RUN <<\"E O\"\nx\nE O").0, "x\n");
    assert!(matches!(form("RUN <<EOF \"a b\"\nx\nEOF"), Form::Heredocs(..)));
    assert_eq!(script("RUN <<-EOF\n\t\ta\n\t b\n\tEOF"), ("a\n b\n".to_owned(), true));
    assert_eq!(script("RUN <<EOF\nEOF").0, "");
    assert_eq!(script("RUN --network=none <<EOF\nx\nEOF").0, "x\n");
    assert_eq!(script("RUN 3<<EOF\nx\nEOF").0, "x\n");
    assert_eq!(script("RUN <<EOF\n EOF\nEOF \nEOF").0, " EOF\nEOF \n");
    let Form::Heredocs(line, heredocs) = form("RUN cat <<A <<-'B' > x && y\n1\nA\n\t2\n\tB") else { unreachable!() };
    assert_eq!(line.text, "cat <<A <<-'B' > x && y");
    assert_eq!(heredocs.iter().map(|h| (h.name.as_str(), h.raw.as_str())).collect::<Vec<_>>(), [("A", "1\n"), ("B", "\t2\n")]);
    for plain in
        ["RUN cat <<< word", "RUN x << y", "RUN echo '<<EOF'", "RUN [\"cat\", \"<<EOF\"]", "RUN echo \\<<EOF", "CMD cat <<EOF", "RUN echo it's <<EOF"]
    {
        assert!(one(plain).is_ok(), "{plain}");
    }
    assert!(matches!(form("RUN x=${y^^} cat <<EOF\nz\nEOF"), Form::Heredocs(..)));
    let error = refused("FROM a\nRUN cat <<EOF\nx\n");
    assert_eq!(error, "Dockerfile:2:9: the here-document \"EOF\" has no end");
    assert!(refused(&format!("FROM a\nRUN cat{}\n{}", " <<E".repeat(101), "E\n".repeat(101))).contains("more than 100"));
    let Ok(Instruction::Run(run)) = one("RUN a \\\n <<EOF \\\n b\nx\nEOF") else { unreachable!() };
    assert!(matches!(run.form, Form::Heredocs(_, heredocs) if heredocs[0].raw == "x\n"));
}

#[test]
fn here_documents_keep_carriage_returns_but_end_at_them() {
    let Ok(Instruction::Run(run)) = one("RUN <<EOF\r\na\r\nEOF\r") else { unreachable!() };
    assert!(matches!(run.form, Form::Script(heredoc) if heredoc.raw == "a\r\n"));
}

#[test]
fn every_place_is_exact() {
    let text = "FROM  alpine:3 AS  one\nRUN --mount=type=tmpfs,target=/t \\\n  # c\n  x\n\nENV a=1 \\\n  b=\"2 3\"\nCOPY --chown=1 s \\\n d/\n";
    let file = read_all(text);
    let stage = &file.stages[0];
    let slice = |span: Span| file.source.slice(span);
    assert_eq!((slice(stage.base.span), slice(stage.name.as_ref().unwrap().span)), ("alpine:3", "one"));
    assert_eq!(slice(stage.span), "FROM  alpine:3 AS  one");
    let [run, env, copy] = stage.instructions.as_slice() else { unreachable!() };
    assert!(slice(run.span).ends_with("\n  x"));
    let Instruction::Run(parsed) = &run.instruction else { unreachable!() };
    assert_eq!(slice(parsed.mounts[0].span), "--mount=type=tmpfs,target=/t");
    assert!(matches!(&parsed.form, Form::Shell(word) if slice(word.span) == "x"));
    let Instruction::Env(pairs) = &env.instruction else { unreachable!() };
    assert_eq!((slice(pairs[1].key.span), slice(pairs[1].value.span)), ("b", "\"2 3\""));
    assert_eq!(file.source.place(pairs[1].key.span.start), Place { line: 7, column: 3 });
    let Instruction::Copy(copy) = &copy.instruction else { unreachable!() };
    assert_eq!((slice(copy.destination.span), slice(copy.chown.as_ref().unwrap().span)), ("d/", "--chown=1"));
}

#[test]
fn bytes_that_are_no_text() {
    assert!(parse(b"# \xff\nFROM a\n", "f").is_ok(), "a comment may be in another encoding");
    let at = |text: &[u8]| parse(text, "f").unwrap_err().to_string();
    assert_eq!(at(b"FROM a\nRUN x \xff\n"), "f:2:7: this is not UTF-8");
    assert_eq!(at(b"FROM a\nRUN x\0\n"), "f:2:6: a zero byte cannot be part of an instruction");
    assert!(at(b"FROM a\nRUN <<E\n\xff\nE\n").contains("must be UTF-8"));
    assert!(read_all("FROM a\nRUN \u{fffd}\n").stages.len() == 1);
}

#[test]
fn the_order_of_lines() {
    for (text, expected) in [
        ("", "Dockerfile:1:1: it has no instructions"),
        ("# c\n\n", "Dockerfile:1:1: it has no instructions"),
        ("ARG a\n", "Dockerfile:1:1: it has no FROM"),
        ("RUN x\n", "Dockerfile:1:1: RUN stands before the first FROM"),
        ("ARG a\n\nenv b=c\nFROM a\n", "Dockerfile:3:1: env stands before the first FROM"),
    ] {
        assert_eq!(refused(text), expected, "{text:?}");
    }
    let file = read_all("ARG a=1\n# c\nARG b\nFROM $a\nFROM b\n");
    assert_eq!((file.globals.len(), file.stages.len()), (2, 2));
}

#[test]
fn limits_hold() {
    assert!(parse(&vec![b'#'; (4 << 20) + 1], "f").unwrap_err().to_string().contains("bytes; at most"));
    assert!(refused(&format!("FROM a\n{}", "RUN x\n".repeat(10_001))).contains("more than 10000 instructions"));
    assert!(refused(&format!("FROM a\nCOPY {} /d/", "x ".repeat(10_001))).contains("more than 10000 sources"));
    assert!(refused(&"FROM a\n".repeat(1_001)).contains("more than 1000 stages"));
    assert!(refused(&format!("FROM a\nONBUILD {}", "ONBUILD ".repeat(100_000))).contains("cannot be an ONBUILD trigger"));
    let begun = std::time::Instant::now();
    let mut text = "FROM a\nRUN x \\\n".to_owned();
    text.push_str(&"y \\\n".repeat(500_000));
    assert_eq!(read_all(&text).stages[0].instructions.len(), 1);
    assert!(parse(format!("FROM a\nENV {}", "a=b ".repeat(500_000)).as_bytes(), "f").is_ok());
    assert!(parse(format!("FROM a\nCOPY {}", "--exclude=b ".repeat(100_000)).as_bytes(), "f").is_err());
    assert!(parse(format!("FROM a\nRUN {}", "[".repeat(1_000_000)).as_bytes(), "f").is_ok());
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn stages_are_found_by_name_and_number() {
    let file = read_all("FROM a AS One\nFROM b AS two\nFROM c AS one\nFROM d AS x9\n");
    for (name, before, expected) in [
        ("one", 4, Some(2)),
        ("ONE", 2, Some(0)),
        ("0", 4, Some(0)),
        ("3", 4, Some(3)),
        ("3", 3, None),
        ("4", 4, None),
        ("nope", 4, None),
        ("two", 1, None),
    ] {
        assert_eq!(file.stage(name, before), expected, "{name}");
    }
    let file = read_all("# web the server\nFROM a AS web\n# other\nFROM b AS api\n");
    assert_eq!((file.stages[0].comment.as_deref(), file.stages[1].comment.as_deref()), (Some("the server"), None));
}

#[test]
fn triggers_stand_alone() {
    let name = |text: &str| parse_trigger(text, "ONBUILD of a").map(|(_, statement)| statement.keyword.text).map_err(|fault| fault.to_string());
    assert_eq!(name("RUN x"), Ok("RUN".to_owned()));
    assert_eq!(name("COPY <<E /x\nabc\nE"), Ok("COPY".to_owned()));
    assert_eq!(name("FROM x"), Err("ONBUILD of a:1:1: this cannot be an ONBUILD trigger".to_owned()));
    assert_eq!(name("ONBUILD RUN x"), Err("ONBUILD of a:1:1: this cannot be an ONBUILD trigger".to_owned()));
    assert_eq!(name(""), Err("ONBUILD of a:1:1: an ONBUILD trigger is empty".to_owned()));
    assert_eq!(name("RUN x\nRUN y"), Err("ONBUILD of a:2:1: an ONBUILD trigger is one instruction".to_owned()));
    assert!(name("RNU x").unwrap_err().contains("unknown instruction"));
}
