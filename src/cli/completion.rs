//! `completion`: what makes a shell complete rcon's words. The scripts know nothing of rcon; they ask `rcon __complete`
//! (`complete.rs`) at each key, so that names are those of this moment and flags those of this binary.

use super::context::Context;
use super::failure::Failure;
use super::output;
use std::process::ExitCode;

/// Print what makes a shell complete rcon's commands, flags and names
///
/// bash: rcon completion bash > /etc/bash_completion.d/rcon
/// zsh:  rcon completion zsh > "${fpath[1]}/_rcon"
/// fish: rcon completion fish > ~/.config/fish/completions/rcon.fish
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    pub shell: String,
}

/// bash splits words at `:` and `=` too, and replaces only what is behind the last of them.
const BASH: &str = r#"# bash completion for rcon

_rcon() {
    local words word found=() line kind=none
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    word=${words[${#words[@]} - 1]}
    [[ ${COMP_LINE:0:COMP_POINT} != *[[:space:]] ]] || { word=; words+=(""); }
    while IFS= read -r line; do
        case $line in
            :*) kind=${line#:} ;;
            *) found+=("${line%%$'\t'*}") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2> /dev/null)
    local behind=${word##*[:=]}
    local before=${word%"$behind"}
    COMPREPLY=()
    for line in "${found[@]}"; do
        [[ $line == "$word"* ]] && COMPREPLY+=("${line#"$before"}")
    done
    case $kind in
        files) [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default ;;
        more) compopt -o nospace ;;
    esac
}
complete -F _rcon rcon
"#;

const ZSH: &str = r#"#compdef rcon
# zsh completion for rcon

_rcon() {
    local line kind=none
    local -a found
    for line in "${(@f)$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2> /dev/null)}"; do
        case $line in
            :*) kind=${line#:} ;;
            ?*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    case $kind in
        more) _describe -V rcon found -S '' ;;
        *) _describe -V rcon found ;;
    esac
    [[ $kind != files ]] || _files
}

if [ "$funcstack[1]" = _rcon ]; then
    _rcon "$@"
else
    compdef _rcon rcon
fi
"#;

const FISH: &str = r#"# fish completion for rcon

function __rcon_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] 2> /dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c rcon -f -a '(__rcon_complete)'
"#;

/// # Errors
/// stdout cannot be written.
pub fn run(args: Args, _context: &Context) -> Result<ExitCode, Failure> {
    output::raw(match args.shell.as_str() {
        "bash" => BASH,
        "zsh" => ZSH,
        _ => FISH,
    })?;
    Ok(ExitCode::SUCCESS)
}
