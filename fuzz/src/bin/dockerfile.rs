//! Any bytes as a Dockerfile, its instructions applied and its rules asked; any text as a word. It is read or refused with a
//! place in it, soon and in little memory; all spans lie within, and a trigger that is kept can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::build::dockerfile::{Dockerfile, Instruction, Span, expand, expand_body, parse, parse_trigger};
use rcon_fuzz::build::lint::lint;
use rcon_fuzz::build::state::{Arguments, ImageState, Site};
use std::collections::BTreeMap;
use std::sync::Arc;

fn inside(file: &Dockerfile, span: Span) {
    // It panics where there is no such text.
    assert!(span.start <= span.end && file.source.slice(span).len() == span.end - span.start, "{span:?}");
}

fn apply(file: &Dockerfile, given: BTreeMap<String, String>) {
    let Ok(arguments) = Arguments::new(file, given, BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())])) else { return };
    let arguments = Arc::new(arguments);
    let site = Site { source: &file.source, escape: file.directives.escape() };
    for stage in &file.stages {
        let mut state = ImageState::scratch(arguments.clone());
        for statement in &stage.instructions {
            match state.apply(site, statement) {
                Ok(step) => drop(step),
                Err(fault) => assert!(fault.place().line <= file.source.lines() && format!("{fault}{}", fault.excerpt()).contains(fault.message())),
            }
        }
        state.warnings.iter().for_each(|warning| inside(file, warning.span));
        let config = serde_json::to_vec(&state.config()).expect("a config can be written");
        serde_json::from_slice::<rcon_fuzz::oci::ImageDefaults>(&config).expect("what was written can be read");
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let lookup = |name: &str| (name.len() == 1).then_some("a b*'\"$x\\");
        for escape in ['\\', '`'] {
            if let Ok(expanded) = expand(text, escape, &lookup) {
                assert!(expanded.words.iter().all(|word| !word.is_empty() && expanded.text.contains(word.as_str())));
            }
        }
        drop(expand_body(text, &lookup));
    }
    let file = match parse(data, "Dockerfile") {
        Ok(file) => file,
        Err(fault) => return assert!(fault.place().line >= 1 && format!("{fault}{}", fault.excerpt()).contains(fault.message())),
    };
    for stage in &file.stages {
        inside(&file, stage.span);
        inside(&file, stage.base.span);
        for statement in &stage.instructions {
            inside(&file, statement.span);
            assert_eq!(file.source.slice(statement.keyword.span), statement.keyword.text);
            if let Instruction::Onbuild(trigger) = &statement.instruction
                && file.directives.escape() == '\\'
            {
                parse_trigger(&trigger.text, "trigger").expect("a trigger that is kept can be read");
            }
        }
    }
    if let Ok(warnings) = lint(&file, &file.directives.check, &BTreeMap::new()) {
        warnings.iter().for_each(|warning| inside(&file, warning.span));
    }
    apply(&file, BTreeMap::from([("a".to_owned(), "${b}".to_owned())]));
});
