//! `volume create`, `ls`, `rm`, `exists`, `export`, `import`, `clone`, `rename`, `mount` and `unmount`.

use super::context::{Context, is_missing};
use super::failure::{self, Failure};
use super::ps::{filters, labels};
use super::template::{self, LABELS};
use super::{output, save, session, table};
use crate::engine::request::env;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const TABLE: &str = "{{.Driver}}\t{{.Name}}";
const TITLES: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Size", "SIZE"),
    ("Links", "LINKS"),
];

/// Create a volume
#[derive(clap::Parser, Debug)]
pub struct CreateArgs {
    /// Driver: local
    #[arg(short = 'd', long, default_value = "local")]
    pub driver: String,
    /// Set a label
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Option of the driver: type=, device=, o= (as mount(8)); for a plain directory uid=, gid=, nocopy, size= and inodes= (quotas)
    #[arg(short = 'o', long = "opt", value_name = "K=V")]
    pub opt: Vec<String>,
    /// Say nothing when a volume of that name exists with other options
    #[arg(long)]
    pub ignore: bool,
    /// Name (a random one without)
    #[arg(value_name = "VOLUME")]
    pub name: Option<String>,
}

/// List volumes
#[derive(clap::Parser, Debug)]
pub struct ListArgs {
    /// Only show names
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Filter: dangling=true, name=…, driver=…, label=k=v, label!=k, opt=k, until=24h
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// Remove volumes
#[derive(clap::Parser, Debug)]
pub struct RemoveArgs {
    /// A missing volume is no failure
    #[arg(short = 'f', long)]
    pub force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// Say by the exit code whether a volume exists: 0, or 1
#[derive(clap::Parser, Debug)]
pub struct ExistsArgs {
    pub volume: String,
}

/// Write the files of a volume to a tar archive
#[derive(clap::Parser, Debug)]
pub struct ExportArgs {
    /// Write to this file instead of stdout
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    pub volume: String,
}

/// Unpack a tar archive into a volume
#[derive(clap::Parser, Debug)]
pub struct ImportArgs {
    pub volume: String,
    /// File, or - for stdin
    #[arg(value_name = "FILE|-")]
    pub source: String,
}

/// Make a volume with the files of another one
#[derive(clap::Parser, Debug)]
pub struct CloneArgs {
    /// Set a label (without any, those of the other one)
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    pub volume: String,
    #[arg(value_name = "NEW")]
    pub new: String,
}

/// Give a volume that no container uses another name
#[derive(clap::Parser, Debug)]
pub struct RenameArgs {
    pub volume: String,
    #[arg(value_name = "NEW")]
    pub new: String,
}

/// Mount volumes on the host and print where their files are; without a name, list what is mounted
#[derive(clap::Parser, Debug)]
pub struct MountArgs {
    #[arg(value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// Unmount volumes from the host; containers keep theirs
#[derive(clap::Parser, Debug)]
pub struct UnmountArgs {
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// # Errors
/// A malformed name or label, or another driver than local.
pub fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, Failure> {
    if args.driver != "local" {
        return Err(Failure::invalid(format!("--driver: \"{}\" is not supported; only local is", args.driver)));
    }
    let labels = args.label.iter().map(|text| env::key_value("--label", text)).collect::<Result<Vec<_>, _>>()?;
    let option = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let options: Vec<(String, String)> = args.opt.iter().map(option).collect();
    let volume = context.engine()?.create_volume(args.name.as_deref(), &labels, &options)?;
    if !args.ignore && volume.options != options.into_iter().collect() {
        output::warnings(&[format!("volume \"{}\" exists already, with other options than these: it stays as it is", volume.name)]);
    }
    output::line(volume.name)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// An unknown filter or a malformed template.
pub fn list(args: ListArgs, context: &Context) -> Result<ExitCode, Failure> {
    let volumes = context.engine()?.volumes(&filters(&args.filter)?)?;
    if args.quiet && args.format.is_none() {
        for volume in &volumes {
            output::line(&volume.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let root = context.privilege.roots.volumes();
    let rows: Vec<Value> = volumes
        .iter()
        .map(|volume| {
            json!({
                "Driver": volume.driver,
                "Labels": labels(&volume.labels),
                "Links": "N/A",
                "Mountpoint": root.join(volume.name.as_str()).join("_data").display().to_string(),
                "Name": volume.name.as_str(),
                "Scope": "local",
                "Size": "N/A",
                LABELS: volume.labels,
            })
        })
        .collect();
    let format = args.format.as_deref().or_else(|| context.setting("volumesFormat"));
    output::raw(&template::list(format, TABLE, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn remove(args: RemoveArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    output::each(&args.volumes, |name| match engine.remove_volume(name, args.force).map_err(Failure::from) {
        Err(failure) if args.force && is_missing(&failure) => Ok(()),
        other => other,
    })
}

/// # Errors
/// It cannot be found out.
pub fn exists(args: ExistsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.inspect_volume(&args.volume).map_err(Failure::from) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(failure) if is_missing(&failure) => Ok(ExitCode::from(1)),
        Err(failure) => Err(failure),
    }
}

/// # Errors
/// stdout is a terminal, there is no such volume, or the archive cannot be written.
pub fn export(args: ExportArgs, context: &Context) -> Result<ExitCode, Failure> {
    if args.output.is_none() && session::stdout_is_tty() {
        return Err(Failure::invalid("cowardly refusing to write a tar to a terminal").with_hint("use -o FILE, or redirect stdout"));
    }
    let engine = context.engine()?;
    let export = |out: &mut dyn Write| engine.export_volume(&args.volume, out).map_err(Failure::from);
    match &args.output {
        Some(path) => save::to_file(path, export)?,
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            export(&mut out)?;
            out.flush().map_err(|e| failure::output(&e))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such volume, or the archive cannot be read or unpacked.
pub fn import(args: ImportArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    let mut input: Box<dyn Read> = match args.source.as_str() {
        "-" if session::stdin_is_tty() => {
            return Err(Failure::invalid("requested import from stdin, but stdin is a terminal").with_hint("name a file, or redirect stdin"));
        }
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(path).map_err(|e| Failure::caused(format!("cannot open {path}"), &e))?),
    };
    engine.import_volume(&args.volume, &mut *input)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// There is no such volume, it is in use, or the new name is taken.
pub fn rename(args: RenameArgs, context: &Context) -> Result<ExitCode, Failure> {
    context.engine()?.rename_volume(&args.volume, &args.new)?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn mount(args: MountArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    if args.volumes.is_empty() {
        let lines: Vec<String> = engine.mounted_volumes()?.iter().map(|(name, place)| format!("{name}\t{}", place.display())).collect();
        output::raw(&table::render(&lines))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for name in &args.volumes {
        match engine.mount_volume(name) {
            Ok(place) => output::line(place.display())?,
            Err(error) => {
                Failure::from(error).print();
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// # Errors
/// The engine cannot be opened, or stdout cannot be written.
pub fn unmount(args: UnmountArgs, context: &Context) -> Result<ExitCode, Failure> {
    let engine = context.engine()?;
    // A plain one has nothing to unmount, and that is what was asked for.
    output::each(&args.volumes, |name| Ok(engine.unmount_volume(name).map(drop)?))
}

/// # Errors
/// There is no such volume, the new name is taken, or the files cannot be copied.
pub fn clone(args: CloneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let labels = args.label.iter().map(|text| env::key_value("--label", text)).collect::<Result<Vec<_>, _>>()?;
    output::line(context.engine()?.clone_volume(&args.volume, &args.new, &labels)?.name)?;
    Ok(ExitCode::SUCCESS)
}
