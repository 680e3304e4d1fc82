//! `system reset` and `migrate`, completion, manual pages.

use crate::environment::Environment;
use std::path::Path;
use std::process::Stdio;

const STEPS: [&str; 5] = ["container", "volumes", "images", "network", "part"];

fn is_gone(engine: &Environment) {
    assert!(!engine.root.join("data").exists() && !engine.root.join("run").exists());
    let look = |program: &str, args: &[&str]| String::from_utf8(engine.inside(program).args(args).output().unwrap().stdout).unwrap();
    assert_eq!((look("ip", &["-o", "link"]).contains("rcon0"), look("nft", &["list", "tables"]).contains("rcon")), (false, false));
}

/// Whose parent was killed with it is reaped by somebody else, a little later.
fn is_dead(pid: &str) {
    let line = Path::new("/proc").join(pid).join("cmdline");
    assert!(std::fs::read(line).unwrap_or_default().is_empty(), "process {pid} lives");
}

#[test]
fn a_reset_asks_and_leaves_nothing() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "-p", "18091:80", "-v", "vol:/v", "busybox", "sleep", "1000"]).ok();
    let asked = engine.rcon(&["system", "reset"]);
    assert!(asked.code == 0 && asked.err.contains("all containers and pods, also those that run"), "{asked:?}");
    assert_eq!(engine.see("web", "{{.State.Status}}"), "running", "the end of input is no");
    let pid = engine.see("web", "{{.State.Pid}}");
    assert_eq!(engine.rcon(&["system", "reset", "-f"]).ok(), "removed 1 containers, 1 images and 1 volumes");
    is_dead(&pid);
    is_gone(&engine);
    assert_eq!(engine.rcon(&["system", "reset", "-f"]).ok(), "nothing to remove");
    assert_eq!(engine.rcon(&["ps", "-aq"]).ok(), "", "a new store begins");
}

/// Whatever the moment, what is left is a store that every command can use, and the next reset takes it.
#[test]
fn a_killed_reset_is_finished_by_the_next() {
    for step in STEPS {
        let engine = Environment::new();
        engine.rcon(&["run", "-d", "--name", "one", "-p", "18092:80", "-v", "vol:/v", "busybox", "sleep", "1000"]).ok();
        engine.rcon(&["create", "--name", "two", "-v", "/anonymous", "busybox"]).ok();
        let point = format!("engine.reset.{step}");
        let killed = engine.command(&["system", "reset", "-f"]).env("RCON_FAILPOINT", format!("{point}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{point} was never reached");
        for look in [&["ps", "-a"][..], &["images"], &["volume", "ls"], &["system", "df"]] {
            assert_eq!(engine.rcon(look).code, 0, "{look:?} after {point}");
        }
        engine.rcon(&["system", "reset", "-f"]).ok();
        is_gone(&engine);
    }
}

#[test]
fn a_reset_needs_no_readable_records() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let pid = engine.see("one", "{{.State.Pid}}");
    std::fs::write(engine.root.join("data/rcon.db"), vec![b'x'; 8192]).unwrap();
    std::fs::remove_file(engine.root.join("data/rcon.db-wal")).unwrap();
    engine.rcon(&["ps"]).fails(1, "rcon.db");
    let done = engine.rcon(&["system", "reset", "-f"]);
    assert!(done.out == "removed everything\n" && done.err.contains("without them"), "{done:?}");
    is_dead(&pid);
    assert!(!engine.root.join("data").exists() && !engine.root.join("run").exists());
}

#[test]
fn a_migration_tells_that_there_is_nothing_to_do() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let said = engine.rcon(&["system", "migrate"]).ok();
    assert!(said.contains("nothing to do\n") && said.contains("all in today's form\n") && said.ends_with("1 run, all under this version"), "{said}");
    // Another binary with the same meaning: one byte behind its end.
    let other = engine.root.join("rcon-other");
    // Not written by this process: what another test forks at that moment would keep it from being executed (ETXTBSY).
    let made =
        std::process::Command::new("sh").args(["-ec", "cp \"$0\" \"$1\"; printf x >> \"$1\"", env!("CARGO_BIN_EXE_rcon")]).arg(&other).status();
    assert!(made.unwrap().success());
    let run = |args: &[&str]| {
        let mut command = engine.inside(other.to_str().unwrap());
        command.env("RCON_ROOT", engine.root.join("data")).env("RCON_RUN_ROOT", engine.root.join("run"));
        String::from_utf8(command.args(args).output().unwrap().stdout).unwrap()
    };
    assert!(run(&["system", "migrate"]).contains("1 run, 1 of them under another version: web"));
    assert!(run(&["system", "migrate", "--restart"]).ends_with("restarted web\n"));
    assert!(run(&["system", "migrate"]).contains("1 run, all under this version"));
    assert_eq!(engine.see("web", "{{.State.Status}}"), "running");
}

/// What bash offers for a line.
fn completed(engine: &Environment, line: &str) -> String {
    let script = format!(
        "{}\nCOMP_LINE='{line}' COMP_POINT={}\n_rcon\nprintf '%s ' \"${{COMPREPLY[@]}}\"",
        engine.rcon(&["completion", "bash"]).ok(),
        line.len()
    );
    let binaries = Path::new(env!("CARGO_BIN_EXE_rcon")).parent().unwrap();
    let mut command = engine.inside("bash");
    command.env("PATH", format!("{}:/usr/bin:/bin", binaries.display())).args(["--norc", "-c", &script]);
    command.env("RCON_ROOT", engine.root.join("data")).env("RCON_RUN_ROOT", engine.root.join("run"));
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim_end().to_owned()
}

#[test]
fn bash_completes_commands_flags_and_names() {
    let engine = Environment::new();
    engine.rcon(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    engine.rcon(&["create", "--name", "work", "-v", "vol:/v", "busybox"]).ok();
    for (line, offered) in [
        ("rcon unp", "unpause"),
        ("rcon volume ins", "inspect"),
        ("rcon run --volumes-f", "--volumes-from"),
        ("rcon run --restart unl", "unless-stopped"),
        ("rcon run --restart=unl", "unless-stopped"),
        ("rcon stop w", "web"),
        ("rcon start wo", "work"),
        ("rcon run bus", "busybox busybox:latest"),
        ("rcon run busybox:", "latest"),
        ("rcon volume rm ", "vol"),
        ("rcon cp we", "web:"),
        ("rcon run busybox w", ""),
        ("rcon nonsense ", ""),
    ] {
        assert_eq!(completed(&engine, line), offered, "{line}");
    }
}

/// A key that was pressed must not make a data root.
#[test]
fn completion_has_no_effects() {
    let engine = Environment::empty();
    assert_eq!(completed(&engine, "rcon rm "), "");
    assert!(!engine.root.join("data").exists());
}

#[test]
fn scripts_and_pages_are_sound() {
    let engine = Environment::empty();
    let check = |program: &str, args: &[&str], text: &str| {
        use std::io::Write;
        let mut child = engine.inside(program).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.is_empty(), "{program}: {said}");
    };
    for shell in ["bash", "zsh"] {
        check(shell, &["-n"], &engine.rcon(&["completion", shell]).ok());
    }
    engine.rcon(&["completion", "tcsh"]).fails(125, "tcsh");
    for page in ["rcon", "rcon-run", "rcon-volume", "rcon-image-ls", "rcon-system-df"] {
        check("man", &["--warnings", "-E", "UTF-8", "-l", "-"], &engine.rcon(&["__man", page]).ok());
    }
    assert!(engine.rcon(&["__man"]).ok().lines().count() > 80);
}

#[test]
fn settings_fill_what_a_container_leaves_open() {
    let engine = Environment::new();
    let file = engine.root.join("rcon.toml");
    std::fs::write(&file, "[container]\nulimits = [\"nofile=100:200\"]\ndns = [\"192.0.2.9\"]\nstop_timeout = 1\nshm_size = \"1m\"\n").unwrap();
    let run = |args: &[&str]| {
        let done = engine.command(args).env("RCON_CONFIG_FILE", &file).output().unwrap();
        String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap()
    };
    let script = "ulimit -n; grep nameserver /etc/resolv.conf; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2";
    assert_eq!(run(&["run", "--rm", "busybox", "sh", "-c", script]), "100\nnameserver 192.0.2.9\n1024\n");
    assert_eq!(
        run(&["run", "--rm", "--ulimit", "nofile=50", "--dns", "192.0.2.8", "--shm-size", "2m", "busybox", "sh", "-c", script]),
        "50\nnameserver 192.0.2.8\n2048\n"
    );
    run(&["create", "--name", "slow", "busybox", "sleep", "1000"]);
    assert_eq!(engine.see("slow", "{{.Config.StopTimeout}}"), "1");
    std::fs::write(&file, "[container]\nulimit = []\n").unwrap();
    let said = run(&["create", "busybox"]);
    assert!(said.contains("line 2") && said.contains("ulimits"), "{said}");
}

#[test]
fn a_faulty_settings_file_on_the_command_line_is_noticed_by_every_command() {
    let engine = Environment::new();
    std::fs::write(engine.root.join("rcon.toml"), "[container]\nbogus = 1\n").unwrap();
    for args in [&["ps"][..], &["version"], &["volume", "ls"], &["inspect", "x"], &["stop", "x"], &["pod", "ps"], &["secret", "ls"]] {
        engine.rcon(&[&["--config-file", "rcon.toml"], args].concat()).fails(1, "line 2");
        engine.rcon(&[&["--config-file", "missing.toml"], args].concat()).fails(1, "missing.toml");
    }
    // That of the machine must not keep anybody from stopping containers.
    let of_the_environment = engine.command(&["ps"]).env("RCON_CONFIG_FILE", "rcon.toml").output().unwrap();
    assert!(of_the_environment.status.success());
}
