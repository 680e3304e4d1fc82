//! Configs and history texts, instruction by instruction.

use super::*;
use crate::build::dockerfile::{Dockerfile, parse};
use std::collections::BTreeMap;

fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn arguments(file: &Dockerfile, given: &[(&str, &str)]) -> Arc<Arguments> {
    Arc::new(Arguments::new(file, map(given), map(&[("TARGETARCH", "amd64"), ("TARGETPLATFORM", "linux/amd64")])).unwrap())
}

/// Applies the first stage of a file to a base; the steps and the state after them.
fn applied(text: &str, base: ImageDefaults, given: &[(&str, &str)]) -> Result<(ImageState, Vec<Step>), String> {
    let file = parse(text.as_bytes(), "Dockerfile").map_err(|fault| fault.render())?;
    let mut state = ImageState::new(base, None, arguments(&file, given));
    let site = Site { source: &file.source, escape: file.directives.escape() };
    let steps = file.stages[0].instructions.iter().map(|statement| state.apply(site, statement));
    let steps = steps.collect::<Result<Vec<_>, _>>().map_err(|fault| fault.to_string())?;
    Ok((state, steps))
}

fn base() -> ImageDefaults {
    ImageDefaults {
        env: Some(vec!["PATH=/bin".to_owned(), "B=base".to_owned()]),
        cmd: Some(vec!["inherited".to_owned()]),
        ..ImageDefaults::default()
    }
}

/// The history text of the last instruction after `FROM a`.
fn created_by(text: &str) -> String {
    let (_, steps) = applied(&format!("FROM a\n{text}\n"), base(), &[]).unwrap();
    steps.last().unwrap().created_by.clone().unwrap_or_default()
}

fn config(text: &str) -> serde_json::Value {
    let (state, _) = applied(&format!("FROM a\n{text}\n"), base(), &[]).unwrap();
    serde_json::to_value(state.config()).unwrap()
}

fn run_step(text: &str, given: &[(&str, &str)]) -> (RunStep, String) {
    let (_, steps) = applied(text, base(), given).unwrap();
    let step = steps.last().unwrap();
    match &step.effect {
        Effect::Run(run) => ((**run).clone(), step.created_by.clone().unwrap()),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn history_reads_as_buildkit_writes_it() {
    for (text, expected) in [
        ("RUN echo hi", "RUN /bin/sh -c echo hi # buildkit"),
        ("RUN [\"/bin/echo\", \"hi\"]", "RUN /bin/echo hi # buildkit"),
        ("ARG A=1 C\nRUN x", "RUN |2 A=1 C= /bin/sh -c x # buildkit"),
        ("ARG A=1\nENV A=2\nRUN x", "RUN |1 A=2 /bin/sh -c x # buildkit"),
        ("ARG A=1\nARG A=3\nRUN x", "RUN |1 A=3 /bin/sh -c x # buildkit"),
        ("SHELL [\"/bin/bash\", \"-ec\"]\nRUN x", "RUN /bin/bash -ec x # buildkit"),
        ("RUN <<E\na\nb\nE", "RUN /bin/sh -c a\nb\n # buildkit"),
        ("RUN <<E\n#!/bin/x\nE", "RUN /dev/pipes/E # buildkit"),
        ("RUN cat <<-E\n\ta\nE", "RUN /bin/sh -c cat <<-E\n\ta\nE # buildkit"),
        ("COPY a b /d/", "COPY a b /d/ # buildkit"),
        ("COPY --from=x --link --chown=1:2 --chmod=755 --parents a /d", "COPY --parents --chown=1:2 --chmod=755 a /d # buildkit"),
        ("COPY <<one $B /d/\nx\none", "COPY base <<one /d/ # buildkit"),
        ("ADD https://x/y /d", "ADD https://x/y /d # buildkit"),
        ("WORKDIR a/../b", "WORKDIR /b"),
        ("ENV A=1 C=\"x y\"", "ENV A=1 C=x y"),
        ("ENV A b  c", "ENV A=b  c"),
        ("LABEL a=1 b.c='2 3'", "LABEL a=1 b.c=2 3"),
        ("ARG A", "ARG A"),
        ("ARG A=1 B", "ARG A=1 B"),
        ("ARG TARGETARCH", "ARG TARGETARCH=amd64"),
        ("CMD [\"nginx\", \"-g\", \"daemon off;\"]", "CMD [\"nginx\" \"-g\" \"daemon off;\"]"),
        ("CMD echo \"a\\b\"\t", "CMD [\"/bin/sh\" \"-c\" \"echo \\\"a\\\\b\\\"\"]"),
        ("CMD [\"é\\n\\u0007\\u200b\\u0001'\"]", "CMD [\"é\\n\\a\\u200b\\x01'\"]"),
        ("ENTRYPOINT [\"x\"]", "ENTRYPOINT [\"x\"]"),
        ("ENTRYPOINT []", "ENTRYPOINT []"),
        ("EXPOSE 80 443/udp 80", "EXPOSE [80/tcp 443/udp]"),
        ("EXPOSE 8000-8002", "EXPOSE [8000/tcp 8001/tcp 8002/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("USER $B:g", "USER base:g"),
        ("STOPSIGNAL SIGQUIT", "STOPSIGNAL SIGQUIT"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c]"),
        ("MAINTAINER a <b>", "MAINTAINER a <b>"),
        ("ONBUILD RUN x", ""),
        ("HEALTHCHECK NONE", "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'}"),
        (
            "HEALTHCHECK --interval=30s --timeout=1m30s --retries=3 CMD curl -f http://localhost/ || exit 1",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"curl -f http://localhost/ || exit 1\"] \"30s\" \"1m30s\" \"0s\" \"0s\" '\\x03'}",
        ),
        ("HEALTHCHECK --retries=39 CMD [\"a\"]", "HEALTHCHECK &{[\"CMD\" \"a\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\''}"),
    ] {
        assert_eq!(created_by(text), expected, "{text}");
    }
}

#[test]
fn the_config_follows_the_instructions() {
    for (text, key, expected) in [
        ("ENV B=x C=$B", "Env", json!(["PATH=/bin", "B=x", "C=base"])),
        ("ENV A=1\nENV A=2 B2=$A", "Env", json!(["PATH=/bin", "B=base", "A=2", "B2=1"])),
        ("ENV \"a b\"=c", "Env", json!(["PATH=/bin", "B=base", "a b=c"])),
        ("LABEL a=1 a=2\nLABEL b=\"$B\"", "Labels", json!({"a": "2", "b": "base"})),
        ("CMD x y", "Cmd", json!(["/bin/sh", "-c", "x y"])),
        ("CMD []", "Cmd", json!([])),
        ("SHELL [\"b\"]\nCMD x", "Cmd", json!(["b", "x"])),
        ("CMD x\nSHELL [\"b\"]", "Cmd", json!(["/bin/sh", "-c", "x"])),
        ("USER u", "Cmd", json!(["inherited"])),
        ("ENTRYPOINT [\"e\"]", "Cmd", json!(null)),
        ("ENTRYPOINT []", "Cmd", json!(null)),
        ("ENTRYPOINT []", "Entrypoint", json!(null)),
        ("CMD [\"c\"]\nENTRYPOINT e", "Cmd", json!(["c"])),
        ("ENTRYPOINT e", "Entrypoint", json!(["/bin/sh", "-c", "e"])),
        ("EXPOSE 80 $P 53/UDP\nEXPOSE 80", "ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("ENV P=\"1 2\"\nEXPOSE $P", "ExposedPorts", json!({"1/tcp": {}, "2/tcp": {}})),
        ("EXPOSE 127.0.0.1:8080:80", "ExposedPorts", json!({"80/tcp": {}})),
        ("VOLUME [\"/a b\", \"/$B\"]", "Volumes", json!({"/a b": {}, "/base": {}})),
        ("USER u:g", "User", json!("u:g")),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d/", "WorkingDir", json!("/a/c/d")),
        ("WORKDIR ~/x", "WorkingDir", json!("/~/x")),
        ("WORKDIR /a\nWORKDIR ../../..", "WorkingDir", json!("/")),
        ("STOPSIGNAL 9", "StopSignal", json!("9")),
        ("SHELL [\"b\", \"-c\"]", "Shell", json!(["b", "-c"])),
        ("ONBUILD RUN x\nONBUILD COPY . /a", "OnBuild", json!(["RUN x", "COPY . /a"])),
        ("HEALTHCHECK NONE", "Healthcheck", json!({"Test": ["NONE"]})),
        (
            "HEALTHCHECK --interval=1s --start-interval=2s CMD x",
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "x"], "Interval": 1_000_000_000, "StartInterval": 2_000_000_000}),
        ),
        ("SHELL [\"b\"]\nHEALTHCHECK --retries=2 CMD x", "Healthcheck", json!({"Test": ["CMD-SHELL", "x"], "Retries": 2})),
    ] {
        assert_eq!(config(text).get(key).cloned().unwrap_or_default(), expected, "{text}");
    }
}

#[test]
fn what_an_instruction_does_not_take() {
    for (text, expected) in [
        ("STOPSIGNAL NOPE", "Dockerfile:2:12: invalid signal \"NOPE\""),
        ("EXPOSE 80/icmp", "Dockerfile:2:8: \"80/icmp\" is no port"),
        ("EXPOSE 90-80", "Dockerfile:2:8: \"90-80\" is no port"),
        ("USER $u", "Dockerfile:2:6: USER needs a name or a number; its variables are empty"),
        ("VOLUME $u", "Dockerfile:2:8: VOLUME needs a path; its variables are empty"),
        ("COPY a $u", "Dockerfile:2:8: the destination is empty; its variables are not set"),
        ("ENV $u=1", "Dockerfile:2:5: this is no name of a variable or label"),
        ("ENV a=${b", "Dockerfile:2:7: \"}\" is missing in a substitution"),
        ("COPY ${x:?give} /", "Dockerfile:2:6: x: give"),
        ("RUN --mount=type=$t,target=/x y", "Dockerfile:2:5: --mount: sharing is no option of type=bind"),
    ] {
        let text = text.replace("target=/x y", "target=/x,sharing=shared y");
        assert_eq!(applied(&format!("FROM a\n{text}\n"), base(), &[]).map(|_| ()), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn arguments_have_scopes_and_an_order() {
    let value = |text: &str, given: &[(&str, &str)]| {
        let (state, _) = applied(text, base(), given).unwrap();
        state.variable("V").map(str::to_owned)
    };
    for (text, given, expected) in [
        ("FROM a\nARG V=1", &[][..], Some("1")),
        ("FROM a\nARG V=1", &[("V", "2")], Some("2")),
        ("FROM a\nARG V", &[], None),
        ("FROM a\nUSER u", &[("V", "2")], None),
        ("ARG V=g\nFROM a\nUSER u", &[], None),
        ("ARG V=g\nFROM a\nARG V", &[], Some("g")),
        ("ARG V=g\nFROM a\nARG V", &[("V", "2")], Some("2")),
        ("ARG V=g\nFROM a\nARG V=s", &[], Some("s")),
        ("ARG W=w\nARG V=$W-x\nFROM a\nARG V", &[("W", "y")], Some("y-x")),
        ("ARG V=$TARGETARCH\nFROM a\nARG V", &[], Some("amd64")),
        ("FROM a\nENV V=e\nARG V=1", &[("V", "2")], Some("e")),
        ("FROM a\nARG V=1\nENV V=e", &[("V", "2")], Some("e")),
        ("FROM a\nARG V=1\nENV V=${V}3", &[], Some("13")),
        ("FROM a\nARG W=1\nARG V=$W", &[], Some("1")),
        ("FROM a\nARG W=1 V=$W", &[], Some("")),
        ("FROM a\nARG V=${B}x", &[], Some("basex")),
    ] {
        assert_eq!(value(text, given).as_deref(), expected, "{text} {given:?}");
    }
    let file = parse(b"ARG a\nFROM x\nARG b\n", "D").unwrap();
    let given = map(&[("a", ""), ("b", ""), ("c", ""), ("http_proxy", ""), ("BUILDKIT_INLINE_CACHE", "1"), ("SOURCE_DATE_EPOCH", "0")]);
    assert_eq!(Arguments::new(&file, given, BTreeMap::new()).unwrap().unused(&file), ["c"]);
    let file = parse(b"ARG tag=1\nFROM a:${tag} AS b\n", "D").unwrap();
    assert_eq!(arguments(&file, &[("tag", "2")]).global(&file, &file.stages[0].base).unwrap().text, "a:2");
}

#[test]
fn a_process_gets_environment_and_arguments() {
    let (run, text) = run_step("FROM a\nARG A=1\nARG B=no\nARG U\nENV E=2\nUSER u\nWORKDIR w\nRUN x", &[("HTTPS_PROXY", "p"), ("Z", "z")]);
    assert_eq!(run.environment, ["PATH=/bin", "B=base", "E=2", "A=1"]);
    assert_eq!((run.proxies, run.directory.as_str(), run.user.as_deref()), (vec!["HTTPS_PROXY=p".to_owned()], "/w", Some("u")));
    assert_eq!(text, "RUN |3 A=1 B=base U= /bin/sh -c x # buildkit");
    let (run, text) = run_step("FROM a\nARG HTTPS_PROXY\nRUN x", &[("HTTPS_PROXY", "p")]);
    assert_eq!((run.proxies.len(), text.as_str()), (0, "RUN |1 HTTPS_PROXY=p /bin/sh -c x # buildkit"));
    let (run, _) = run_step("FROM a\nARG C=/c\nRUN --mount=type=cache,target=$C --network=none <<E\n#!/bin/x\ny\nE", &[]);
    assert!(matches!(&run.mounts[0], Mount::Cache(cache) if cache.target == "/c"));
    assert_eq!((run.network, run.script), (RunNetwork::None, Some(("E".to_owned(), "#!/bin/x\ny\n".to_owned()))));
    let (state, steps) = applied("FROM a\nRUN x\n", ImageDefaults::default(), &[]).unwrap();
    assert!(matches!(&steps[0].effect, Effect::Run(run) if run.environment == [format!("PATH={PATH}")]));
    assert_eq!(state.config().env, None);
}

#[test]
fn a_transfer_has_its_words_expanded() {
    let text = "FROM a\nWORKDIR /w\nCOPY --chown=$B --chmod= --exclude=$B* \"$B\" <<E <<'F' d/\n\"$B\" \\$B\nE\n$B\nF\n";
    let (_, steps) = applied(text, base(), &[]).unwrap();
    let Effect::Transfer(step) = &steps[1].effect else { unreachable!() };
    let file = |name: &str, content: &str| Given::File { name: name.to_owned(), content: content.to_owned() };
    assert_eq!(step.sources, [Given::Path("base".to_owned()), file("E", "\"base\" $B\n"), file("F", "$B\n")]);
    assert_eq!((step.chown.as_deref(), step.chmod.as_deref(), step.exclude.join(" ")), (Some("base"), None, "base*".to_owned()));
    assert_eq!((step.destination.as_str(), step.directory.as_str(), step.add), ("d/", "/w", false));
}

#[test]
fn undefined_variables_are_warned_of() {
    let text = "FROM a\nENV Base=1\nARG D\nENV x=$D y=$Bsae z=${N:-1}\nRUN $u\nUSER x$PATH$1\n";
    let (state, _) = applied(text, base(), &[]).unwrap();
    let [warning] = state.warnings.as_slice() else { unreachable!("{:?}", state.warnings) };
    assert_eq!((warning.rule, warning.text.as_str()), ("UndefinedVar", "the variable $Bsae is not defined (did you mean $Base?)"));
}

#[test]
fn stages_inherit() {
    let file = parse(b"FROM scratch\nARG A=1\nCMD [\"c\"]\nONBUILD RUN x\nFROM b\nENTRYPOINT [\"e\"]\nRUN y\n", "D").unwrap();
    let site = Site { source: &file.source, escape: '\\' };
    let mut first = ImageState::scratch(arguments(&file, &[]));
    for statement in &file.stages[0].instructions {
        first.apply(site, statement).unwrap();
    }
    let mut second = first.child();
    assert_eq!(second.take_triggers(), ["RUN x"]);
    second.apply(site, &file.stages[1].instructions[0]).unwrap();
    assert_eq!((second.config().cmd, second.config().on_build), (None, None));
    let step = second.apply(site, &file.stages[1].instructions[1]).unwrap();
    assert_eq!(step.created_by.as_deref(), Some("RUN |1 A=1 /bin/sh -c y # buildkit"));
    assert_eq!(second.config().env, Some(vec![format!("PATH={PATH}")]));
    second.label("a", "b");
    assert_eq!(second.config().labels, Some(map(&[("a", "b")])));
}

#[test]
fn hostile_files_end_soon() {
    let text = format!("FROM a\nENV a={}\n{}", "x".repeat(200_000), "ENV b=$a\n".repeat(400));
    let error = applied(&text, base(), &[]).map(|_| ()).unwrap_err();
    assert!(error.contains("the words of the build grow beyond"), "{error}");
    let text = format!("FROM a\n{}", "EXPOSE 1-65535\n".repeat(200));
    assert!(applied(&text, base(), &[]).map(|_| ()).unwrap_err().contains("grow beyond"));
    let text = format!("FROM a\nENV {}\n", (0..50_000).map(|n| format!("v{n}=$v{} ", n / 2)).collect::<String>());
    let begun = std::time::Instant::now();
    drop(applied(&text, base(), &[]));
    assert!(begun.elapsed().as_secs() < 20);
}
