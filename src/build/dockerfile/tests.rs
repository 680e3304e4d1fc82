//! The language, trap by trap.

mod expansion;
mod instructions;
mod lines;
mod property;

use super::*;

/// Reads it after `FROM scratch`; the one instruction that follows.
fn one(text: &str) -> Result<Instruction, String> {
    let file = parse(format!("FROM scratch\n{text}\n").as_bytes(), "Dockerfile").map_err(|fault| fault.render())?;
    let [stage] = file.stages.as_slice() else { return Err(format!("{} stages", file.stages.len())) };
    let [statement] = stage.instructions.as_slice() else { return Err(format!("{} instructions", stage.instructions.len())) };
    Ok(statement.instruction.clone())
}

fn read_all(text: &str) -> Dockerfile {
    parse(text.as_bytes(), "Dockerfile").unwrap_or_else(|fault| unreachable!("{}", fault.render()))
}

/// The error as one line.
fn refused(text: &str) -> String {
    match parse(text.as_bytes(), "Dockerfile") {
        Ok(_) => unreachable!("it was read: {text}"),
        Err(fault) => fault.to_string(),
    }
}

/// Shell text of the first RUN.
fn shell_of(text: &str) -> String {
    match &read_all(text).stages[0].instructions[0].instruction {
        Instruction::Run(Run { form: Form::Shell(word) | Form::Heredocs(word, _), .. }) => word.text.clone(),
        other => unreachable!("{other:?}"),
    }
}
