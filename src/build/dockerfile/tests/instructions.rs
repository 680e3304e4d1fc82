//! Each instruction with its flags, forms and faults.

use super::*;
use crate::build::dockerfile::instruction::Timing;

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    match one(text) {
        Ok(Instruction::Env(pairs) | Instruction::Label(pairs)) => pairs.into_iter().map(|pair| (pair.key.text, pair.value.text)).collect(),
        other => unreachable!("{other:?}"),
    }
}

fn transfer(text: &str) -> Transfer {
    match one(text) {
        Ok(Instruction::Add(transfer) | Instruction::Copy(transfer)) => transfer,
        other => unreachable!("{other:?}"),
    }
}

fn run(text: &str) -> Run {
    match one(text) {
        Ok(Instruction::Run(run)) => run,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn faults_name_the_place_and_the_way_out() {
    for (text, place, message, hint) in [
        ("RNU x", "2:1", "unknown instruction \"RNU\"", "did you mean RUN?"),
        ("COPYY a b", "2:1", "unknown instruction \"COPYY\"", "did you mean COPY?"),
        ("frobnicate", "2:1", "unknown instruction \"frobnicate\"", ""),
        ("RUN", "2:1", "RUN needs an argument", ""),
        ("CMD", "2:1", "CMD needs an argument", "CMD [] takes away"),
        ("RUN --mount=type=tmpfs,target=/t", "2:1", "RUN needs an argument", ""),
        ("RUN []", "2:5", "RUN needs a command", ""),
        ("RUN [1]", "2:5", "the array of RUN may hold nothing but strings", ""),
        ("RUN --netwrok=none x", "2:5", "--netwrok is no flag of RUN", "did you mean --network?"),
        ("RUN --network=bridge x", "2:5", "--network is default or none or host, not \"bridge\"", ""),
        ("RUN --network x", "2:5", "--network needs a value", ""),
        ("RUN --network=none --network=host x", "2:20", "--network stands twice", ""),
        ("RUN --security=privileged x", "2:5", "--security is sandbox or insecure", ""),
        ("RUN --device=nvidia.com/gpu=all x", "2:5", "--device of RUN is not supported", ""),
        ("CMD --foo x", "2:5", "--foo is no flag of CMD", ""),
        ("COPY a", "2:6", "COPY needs at least one source and a destination", ""),
        ("COPY [\"a\"]", "2:6", "COPY needs at least one source and a destination", ""),
        ("COPY --form=x a b", "2:6", "--form is no flag of COPY", "did you mean --from?"),
        ("COPY --from=$x a b", "2:6", "--from takes no variables", "FROM … AS"),
        ("COPY --link=maybe a b", "2:6", "--link is true or false", ""),
        ("COPY --checksum=x a b", "2:6", "--checksum is no flag of COPY", ""),
        ("ADD --from=x a b", "2:5", "--from is no flag of ADD", ""),
        ("COPY a <<E\nE", "2:8", "a here-document cannot be the destination", ""),
        ("ENV a", "2:5", "ENV needs a value for \"a\"", "write ENV a=value"),
        ("ENV a=1 b", "2:9", "\"b\" is not KEY=VALUE", "must be quoted"),
        ("ENV =1", "2:5", "ENV needs a name before", ""),
        ("LABEL a=1 =2", "2:11", "LABEL needs a name before", ""),
        ("ARG =1", "2:5", "ARG needs a name before", ""),
        ("ARG", "2:1", "ARG needs an argument", ""),
        ("EXPOSE", "2:1", "EXPOSE needs an argument", ""),
        ("VOLUME []", "2:8", "VOLUME needs a path", ""),
        ("VOLUME [\"\"]", "2:8", "VOLUME needs a path", ""),
        ("SHELL bash -c", "2:7", "SHELL takes a JSON array of strings", "double quotes"),
        ("SHELL ['bash']", "2:7", "SHELL takes a JSON array of strings", "double quotes"),
        ("SHELL []", "2:7", "SHELL takes a JSON array of strings", "double quotes"),
        ("HEALTHCHECK curl x", "2:13", "HEALTHCHECK takes CMD or NONE, not \"curl\"", "CMD command"),
        ("HEALTHCHECK CMD", "2:13", "HEALTHCHECK CMD needs a command", ""),
        ("HEALTHCHECK CMD []", "2:13", "HEALTHCHECK CMD needs a command", ""),
        ("HEALTHCHECK NONE x", "2:18", "HEALTHCHECK NONE takes nothing more", ""),
        ("HEALTHCHECK --interval=5s NONE", "2:13", "HEALTHCHECK NONE takes no flags", ""),
        ("HEALTHCHECK --interval=5 CMD x", "2:13", "--interval: \"5\" is no duration", "30s"),
        ("HEALTHCHECK --timeout=999us CMD x", "2:13", "--timeout must be 0 or at least 1ms", ""),
        ("HEALTHCHECK --timeout=-1s CMD x", "2:13", "--timeout must be 0 or at least 1ms", ""),
        ("HEALTHCHECK --retries=-1 CMD x", "2:13", "--retries: \"-1\" is no number of retries", ""),
        ("HEALTHCHECK --start=1s CMD x", "2:13", "--start is no flag of HEALTHCHECK", ""),
        ("ONBUILD", "2:1", "ONBUILD needs an argument", ""),
        ("ONBUILD FROM x", "2:9", "FROM cannot be an ONBUILD trigger", ""),
        ("ONBUILD MAINTAINER x", "2:9", "MAINTAINER cannot be an ONBUILD trigger", ""),
        ("ONBUILD onbuild RUN x", "2:9", "ONBUILD cannot be an ONBUILD trigger", ""),
        ("ONBUILD CPOY a b", "2:9", "unknown instruction \"CPOY\"", "did you mean COPY?"),
        ("ONBUILD COPY --form=x a b", "2:14", "--form is no flag of COPY", "--from"),
        ("FROM", "2:1", "FROM needs an image, a stage or scratch", ""),
        ("FROM a AS", "2:8", "AS needs the name of the stage", ""),
        ("FROM a b", "2:8", "\"b\" is not expected here", "FROM is written"),
        ("FROM a AS b c", "2:8", "\"AS\" is not expected here", "FROM is written"),
        ("FROM a AS 1b", "2:11", "\"1b\" is no name for a stage", "begins with a letter"),
        ("FROM a AS b/c", "2:11", "\"b/c\" is no name for a stage", "begins with a letter"),
        ("FROM --platfrom=x a", "2:6", "--platfrom is no flag of FROM", "did you mean --platform?"),
    ] {
        let fault = parse(format!("FROM scratch\n{text}\n").as_bytes(), "D").expect_err(text);
        let line = fault.to_string();
        assert!(line.starts_with(&format!("D:{place}: ")) && line.contains(message), "{text}: {line}");
        assert!(fault.suggestion().unwrap_or_default().contains(hint), "{text}: {fault:?}");
        assert_eq!(fault.suggestion().is_some(), !hint.is_empty(), "{text}: {fault:?}",);
    }
}

#[test]
fn mounts_are_refused_with_their_reason() {
    for (mount, message) in [
        ("type=bnid,target=/x", "\"bnid\" is no type of a mount"),
        ("type=bind", "type=bind needs target="),
        ("target=/", "target must not be /"),
        ("target=/a/../.", "target must not be /"),
        ("type=cache,target=/x,sharing=mine", "sharing is shared, private or locked"),
        ("type=cache,target=/x,mode=9", "mode: \"9\" is no octal mode"),
        ("type=cache,target=/x,uid=root", "uid: \"root\" is no id"),
        ("type=cache,target=/x,size=1", "size is no option of type=cache"),
        ("type=tmpfs,target=/x,from=y", "from is no option of type=tmpfs"),
        ("type=tmpfs,target=/x,size=big", "size: invalid size"),
        ("type=secret", "needs id= or target="),
        ("type=bind,target=/x,required", "required is no option of type=bind"),
        ("type=bind,target=/x,ro,rw=true", "contradict"),
        ("type=bind,target=/x,ro=maybe", "readonly is true or false"),
        ("type=bind,tarlet=/x", "\"tarlet\" is no option of a mount; did you mean target?"),
        ("type=bind,target", "target needs a value"),
        ("from=$x,target=/x", "from takes no variables"),
        ("target=\\\"/x", "the quote"),
    ] {
        let error = one(&format!("RUN --mount={mount} x")).unwrap_err();
        assert!(error.contains(message), "{mount}: {error}");
    }
}

#[test]
fn mounts_mean_what_they_say() {
    let resolved = |text: &str| {
        let run = run(&format!("RUN --mount={text} x"));
        let mut given = |word: &str| expand(word, '\\', &|name| (name == "d").then_some("/data")).map(|expanded| expanded.text);
        run.mounts[0].resolve(&mut given).unwrap()
    };
    let bind = |target: &str, writable| Mount::Bind { target: target.to_owned(), from: None, source: None, writable };
    assert_eq!(resolved("target=/x"), bind("/x", false));
    assert_eq!(resolved("type=bind,dst=$d,rw"), bind("/data", true));
    assert_eq!(resolved("TYPE=bind,destination=${d}/y,ro=false"), bind("/data/y", true));
    let Mount::Bind { from, source, .. } = resolved("target=x,from=one,src=s") else { unreachable!() };
    assert_eq!((from.as_deref(), source.as_deref()), (Some("one"), Some("s")));
    let Mount::Cache(cache) = resolved("type=cache,target=~/.cache") else { unreachable!() };
    assert_eq!(
        (cache.target.as_str(), cache.id, cache.mode, cache.uid, cache.read_only, cache.sharing),
        ("~/.cache", None, 0o755, 0, false, Sharing::Shared)
    );
    let Mount::Cache(cache) = resolved("type=cache,target=$d,id=$d,sharing=locked,mode=0700,uid=7,gid=8,ro") else { unreachable!() };
    assert_eq!(
        (cache.id.as_deref(), cache.mode, cache.uid, cache.gid, cache.read_only, cache.sharing),
        (Some("/data"), 0o700, 7, 8, true, Sharing::Locked)
    );
    assert_eq!(resolved("type=tmpfs,target=/t,size=64m"), Mount::Tmpfs { target: "/t".to_owned(), size: Some(64 << 20) });
    let Mount::Secret(secret) = resolved("type=secret,id=token,env=TOKEN,required") else { unreachable!() };
    assert_eq!((secret.id.as_str(), secret.target, secret.env.as_deref(), secret.required, secret.mode), ("token", None, Some("TOKEN"), true, 0o400));
    let Mount::Secret(secret) = resolved("type=secret,target=/root/.netrc,required=false") else { unreachable!() };
    assert_eq!((secret.id.as_str(), secret.target.as_deref(), secret.required), (".netrc", Some("/root/.netrc"), false));
    let Mount::Ssh(ssh) = resolved("type=ssh") else { unreachable!() };
    assert_eq!((ssh.id.as_str(), ssh.mode), ("default", 0o600));
    assert_eq!(resolved("'type=tmpfs,\"target=/a,b\"'"), Mount::Tmpfs { target: "/a,b".to_owned(), size: None });
    let two = run("RUN --mount=target=/a --mount=from=z,target=/b --network=host --security=insecure x --mount=y");
    assert_eq!((two.mounts.len(), two.mounts[1].from(), two.network, two.security), (2, Some("z"), RunNetwork::Host, Security::Insecure));
    assert!(matches!(two.form, Form::Shell(word) if word.text == "x --mount=y"));
    // A type that a variable decides is checked when it is known.
    let late = run("RUN --mount=type=$t,target=/x x");
    assert!(late.mounts[0].resolve(&mut |_| Ok("nope".to_owned())).unwrap_err().contains("is no type"));
}

#[test]
fn commands_have_two_forms() {
    let exec = |words: &[&str]| Command::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    for (text, expected) in [
        ("CMD [\"a\", \"b c\"]", Some(exec(&["a", "b c"]))),
        ("CMD  [ \"a\" ] ", Some(exec(&["a"]))),
        ("CMD []", Some(exec(&[]))),
        ("CMD [\"a\", \\\n \"b\"]", Some(exec(&["a", "b"]))),
        ("CMD [\"a\\\\b\\u0041\"]", Some(exec(&["a\\bA"]))),
        // Not JSON, so the shell gets it.
        ("CMD ['a', 'b']", None),
        ("CMD [\"a\",]", None),
        ("CMD [\"a\"] b", None),
        ("CMD [ -f x ] && y", None),
        ("CMD a [\"b\"]", None),
        ("CMD {\"a\": 1}", None),
    ] {
        let Ok(Instruction::Cmd(command)) = one(text) else { unreachable!("{text}") };
        match expected {
            Some(expected) => assert_eq!(command, expected, "{text}"),
            None => assert!(matches!(command, Command::Shell(_)), "{text}"),
        }
    }
}

#[test]
fn pairs_are_split_as_written() {
    let own = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    for (text, expected) in [
        ("ENV a=1", own(&[("a", "1")])),
        ("ENV a=1 b=2", own(&[("a", "1"), ("b", "2")])),
        ("ENV a=\"x y\" b='z w'", own(&[("a", "\"x y\""), ("b", "'z w'")])),
        ("ENV a=x\\ y b=", own(&[("a", "x\\ y"), ("b", "")])),
        ("ENV a=1 \\\n b=2 \\\n# c\n c=3", own(&[("a", "1"), ("b", "2"), ("c", "3")])),
        ("ENV a=b=c", own(&[("a", "b=c")])),
        ("ENV a b c", own(&[("a", "b c")])),
        ("ENV a   \"b  c\" d=e ", own(&[("a", "\"b  c\" d=e")])),
        ("ENV a\tb", own(&[("a", "b")])),
        ("ENV a='\"' b=\"'\"", own(&[("a", "'\"'"), ("b", "\"'\"")])),
        ("ENV a=\"\\\"\" b=1", own(&[("a", "\"\\\"\""), ("b", "1")])),
        ("LABEL \"a b\"=c", own(&[("\"a b\"", "c")])),
        ("LABEL a.b-c/d=\"multi \\\n line\"", own(&[("a.b-c/d", "\"multi  line\"")])),
        ("LABEL a b", own(&[("a", "b")])),
    ] {
        assert_eq!(pairs(text), expected, "{text}");
    }
    let Ok(Instruction::Arg(arguments)) = one("ARG a b=1 c=\"x y\" d=") else { unreachable!() };
    let shown: Vec<_> = arguments.iter().map(|a| (a.name.text.as_str(), a.default.as_ref().map(|d| d.text.as_str()))).collect();
    assert_eq!(shown, [("a", None), ("b", Some("1")), ("c", Some("\"x y\"")), ("d", Some(""))]);
}

#[test]
fn transfers_have_sources_and_a_destination() {
    let copy = transfer("COPY --from=one --chown=$u:g --chmod=u=rwX,go=rX --link --parents --exclude=*.o --exclude='a b' a b* /d/");
    assert_eq!(copy.from.unwrap().text, "one");
    assert_eq!((copy.chown.unwrap().text.as_str(), copy.chmod.unwrap().text.as_str()), ("$u:g", "u=rwX,go=rX"));
    assert_eq!((copy.link, copy.parents, texts(&copy.exclude)), (true, true, vec!["*.o", "a b"]));
    assert!(matches!(copy.sources.as_slice(), [Origin::Path(a), Origin::Path(b)] if a.text == "a" && b.text == "b*"));
    assert_eq!(copy.destination.text, "/d/");
    let add = transfer("ADD --checksum=sha256:ab --keep-git-dir=true --unpack=FALSE --link=false https://x/y /z");
    assert_eq!((add.checksum.unwrap().text.as_str(), add.keep_git_dir, add.unpack, add.link), ("sha256:ab", Some(true), Some(false), false));
    let json = transfer("COPY [\"a b\", \"<<E\", \"/c d\"]");
    assert!(matches!(json.sources.as_slice(), [Origin::Path(a), Origin::Path(b)] if a.text == "a b" && b.text == "<<E"));
    assert_eq!(json.destination.text, "/c d");
    let files = transfer("COPY x <<a <<-\"b\" /d/\n1 $v\na\n\t2\n\tb");
    let [Origin::Path(_), Origin::Heredoc(a), Origin::Heredoc(b)] = files.sources.as_slice() else { unreachable!() };
    assert_eq!((a.name.as_str(), a.body().as_str(), a.expand), ("a", "1 $v\n", true));
    assert_eq!((b.name.as_str(), b.body().as_str(), b.expand), ("b", "2\n", false));
    assert_eq!(transfer("COPY --chown= a b").chown, None);
    assert_eq!(transfer("COPY -- --a b").destination.text, "b");
    assert_eq!(transfer("copy\ta\tb").destination.text, "b");
}

#[test]
fn the_other_instructions() {
    assert!(matches!(one("EXPOSE 80 443/udp $p"), Ok(Instruction::Expose(words)) if texts(&words) == ["80", "443/udp", "$p"]));
    assert!(matches!(one("VOLUME /a /b"), Ok(Instruction::Volume(words)) if texts(&words) == ["/a", "/b"]));
    assert!(matches!(one("VOLUME [\"/a b\"]"), Ok(Instruction::Volume(words)) if texts(&words) == ["/a b"]));
    assert!(matches!(one("VOLUME ['/a']"), Ok(Instruction::Volume(words)) if texts(&words) == ["['/a']"]));
    assert!(matches!(one("WORKDIR /a b"), Ok(Instruction::Workdir(word)) if word.text == "/a b"));
    assert!(matches!(one("USER a:b "), Ok(Instruction::User(word)) if word.text == "a:b"));
    assert!(matches!(one("STOPSIGNAL 9"), Ok(Instruction::Stopsignal(word)) if word.text == "9"));
    assert!(matches!(one("MAINTAINER a <b@c>"), Ok(Instruction::Maintainer(word)) if word.text == "a <b@c>"));
    assert!(matches!(one("SHELL [\"bash\", \"-c\"]"), Ok(Instruction::Shell(words)) if words == ["bash", "-c"]));
    assert_eq!(one("HEALTHCHECK none"), Ok(Instruction::Healthcheck(Healthcheck::None)));
    let check = one("HEALTHCHECK --interval=1m30s --timeout=0 --start-period=500ms --start-interval=1s --retries=3 \\\n CMD curl --fail x || exit 1");
    let Ok(Instruction::Healthcheck(Healthcheck::Check { command: Command::Shell(word), timing })) = check else { unreachable!() };
    assert_eq!(word.text, "curl --fail x || exit 1");
    let expected = Timing { interval: 90_000_000_000, timeout: 0, start_period: 500_000_000, start_interval: 1_000_000_000, retries: 3 };
    assert_eq!(timing, expected);
    let check = one("HEALTHCHECK CMD [\"a\"]");
    assert!(matches!(check, Ok(Instruction::Healthcheck(Healthcheck::Check { command: Command::Exec(words), .. })) if words == ["a"]));
}

#[test]
fn triggers_keep_their_text() {
    let trigger = |text: &str| match one(text) {
        Ok(Instruction::Onbuild(trigger)) => trigger,
        other => unreachable!("{other:?}"),
    };
    let copy = trigger("ONBUILD  COPY --from=x a \\\n  b");
    assert_eq!(copy.text, "COPY --from=x a   b");
    assert!(matches!(copy.statement.instruction, Instruction::Copy(_)));
    let run = trigger("ONBUILD RUN <<E\necho $x\nE");
    assert_eq!(run.text, "RUN <<E\necho $x\nE");
    assert!(matches!(&run.statement.instruction, Instruction::Run(Run { form: Form::Script(heredoc), .. }) if heredoc.raw == "echo $x\n"));
    let (_, again) = parse_trigger(&run.text, "t").unwrap();
    assert!(matches!(&again.instruction, Instruction::Run(Run { form: Form::Script(heredoc), .. }) if heredoc.raw == "echo $x\n"));
}

#[test]
fn stages_are_described() {
    let file = read_all("FROM --platform=$BUILDPLATFORM a:1@sha256:x as Build\nFROM build\n");
    let [first, second] = file.stages.as_slice() else { unreachable!() };
    assert_eq!((first.platform.as_ref().unwrap().text.as_str(), first.key().as_deref()), ("$BUILDPLATFORM", Some("build")));
    assert_eq!((first.base.text.as_str(), first.as_keyword.as_ref().unwrap().text.as_str()), ("a:1@sha256:x", "as"));
    assert_eq!((second.base.text.as_str(), second.name.is_none()), ("build", true));
}
