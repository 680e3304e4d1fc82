//! `images`: lists images.

use super::context::{Context, is_missing};
use super::failure::{Failure, USAGE};
use super::ps::filters;
use super::template::{self, LABELS};
use super::{humanise, output, table};
use crate::base::{ByteSize, Timestamp};
use crate::engine::{Engine, ImageView};
use crate::oci::{ImageDocument, Manifest, Platform, Reference};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const DIGESTS_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
pub const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];
const NONE: &str = "<none>";

/// List images
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Show all images (there are no intermediate ones: the same list)
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Only show ids
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Show each image with its platform, and what it takes
    #[arg(long)]
    pub tree: bool,
    /// Filter: dangling=true, label=k=v, reference=…, before=…, since=…
    #[arg(short = 'f', long, value_name = "K=V")]
    pub filter: Vec<String>,
    /// Format: json, table, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

/// # Errors
/// An unknown filter or a malformed template.
pub fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut filters = filters(&args.filter)?;
    filters.extend(args.name.map(|name| ("reference".to_owned(), name)));
    let views = context.engine()?.images(&filters)?;
    let id = |view: &ImageView| identifier(&view.image.id, !args.no_trunc);
    if args.tree {
        if args.quiet || args.digests || args.format.is_some() {
            return Err(Failure::invalid("--tree shows its own columns: it goes with neither --quiet, --digests nor --format").with_code(USAGE));
        }
        let engine = context.engine()?;
        let members = views.iter().map(|view| members(&engine, view)).collect::<Result<Vec<_>, _>>()?;
        output::raw(&tree(&views, &members, id))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.quiet && args.format.is_none() {
        for view in &views {
            // One line per shown row, as Docker: an image with two names appears twice.
            for _ in 0..names(view, false).len() {
                output::line(id(view))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let format = args.format.as_deref().or_else(|| context.setting("imagesFormat"));
    let every = args.digests || format.is_some_and(|format| format.contains(".Digest"));
    let rows: Vec<Value> = views
        .iter()
        .flat_map(|view| names(view, every).into_iter().map(move |name| (view, name)))
        .map(|(view, name)| row(view, &name, id(view), now))
        .collect();
    output::raw(&template::list(format, if args.digests { DIGESTS_TABLE } else { TABLE }, TITLES, &rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Check whether an image is here: exit code 0 if so, else 1
#[derive(clap::Parser, Debug)]
pub struct ExistsArgs {
    pub image: String,
}

/// # Errors
/// The engine cannot be opened, or the name is an ambiguous prefix.
pub fn exists(args: ExistsArgs, context: &Context) -> Result<ExitCode, Failure> {
    match context.engine()?.image(&args.image).map_err(Failure::from) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(failure) if is_missing(&failure) => Ok(ExitCode::from(1)),
        Err(failure) => Err(failure),
    }
}

/// The images that the first name with an index stands for; none: the image is alone.
fn members(engine: &Engine, view: &ImageView) -> Result<Vec<ImageView>, Failure> {
    for tag in &view.tags {
        if let Some(index) = engine.index_of(&tag.to_string())? {
            let views = index.members.iter().map(|member| engine.image(&member.image)).collect::<Result<Vec<_>, _>>();
            return views.map_err(Failure::from);
        }
    }
    Ok(Vec::new())
}

/// Docker's tree: a line for each image with all its names, and one for each of its platforms beneath it.
fn tree(views: &[ImageView], members: &[Vec<ImageView>], id: impl Fn(&ImageView) -> String) -> String {
    let mut lines = vec!["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA".to_owned()];
    for (view, members) in views.iter().zip(members) {
        let all: Vec<String> = view.tags.iter().map(Reference::familiar).collect();
        let shown = if all.is_empty() { "<untagged>".to_owned() } else { all.join(", ") };
        let parts: Vec<&ImageView> = if members.is_empty() { vec![view] } else { members.iter().collect() };
        let sizes = |parts: &[&ImageView]| {
            let disk = parts.iter().map(|part| part.image.size).sum();
            (ByteSize(disk).decimal(), ByteSize(parts.iter().map(|part| content_size(part)).sum()).decimal())
        };
        let (disk, content) = sizes(&parts);
        let used = |used: bool| if used { "U" } else { "" };
        let any = used(parts.iter().any(|part| part.containers > 0));
        lines.push(format!("{}\t{}\t{disk}\t{content}\t{any}", output::cell(&shown), id(view)));
        for (number, part) in parts.iter().enumerate() {
            let branch = if number + 1 == parts.len() { "└─" } else { "├─" };
            let (disk, content) = sizes(&[part]);
            let own = used(!members.is_empty() && part.containers > 0);
            lines.push(format!("{branch} {}\t{}\t{disk}\t{content}\t{own}", output::cell(&platform(part)), id(part)));
        }
    }
    table::render(&lines).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Bytes of config and layers as the registry holds them; 0 where no manifest tells.
fn content_size(view: &ImageView) -> u64 {
    let manifest: Option<Manifest> = view.image.manifest.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    manifest.map_or(0, |manifest| manifest.layers.iter().map(|layer| layer.size).sum::<u64>() + manifest.config.size)
}

fn platform(view: &ImageView) -> String {
    match serde_json::from_slice::<ImageDocument>(&view.image.config) {
        Ok(document) => Platform::normalised(&document.os, &document.architecture, document.variant.as_deref()).to_string(),
        // A list shows all there is; `inspect` says what is wrong with it.
        Err(_) => "<unreadable>".to_owned(),
    }
}

/// 12 digits of an image id, or the whole.
pub fn identifier(id: &str, trunc: bool) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    if trunc { hex.chars().take(12).collect() } else { id.to_owned() }
}

/// (repository, tag, digest) of each row of an image, as Docker has them: a row for each tag, and one for each repository that it
/// has only digests of. With `every` a repository's rows are told apart by its digests too; otherwise each has the first one.
pub fn names(view: &ImageView, every: bool) -> Vec<(String, String, String)> {
    let mut digests: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for reference in &view.digests {
        digests.entry(reference.familiar_name()).or_default().extend(reference.digest());
    }
    let mut rows = Vec::new();
    let mut add = |repository: &str, tag: &str, digests: &[&str]| {
        let shown = if every { digests.len() } else { digests.len().min(1) };
        let digests = if shown == 0 { &[NONE] } else { &digests[..shown] };
        rows.extend(digests.iter().map(|digest| (repository.to_owned(), tag.to_owned(), (*digest).to_owned())));
    };
    let mut tagged = BTreeSet::new();
    for reference in &view.tags {
        let repository = reference.familiar_name();
        add(&repository, reference.tag().unwrap_or(NONE), digests.get(&repository).map_or(&[], Vec::as_slice));
        tagged.insert(repository);
    }
    for (repository, digests) in digests.iter().filter(|(repository, _)| !tagged.contains(*repository)) {
        add(repository, NONE, digests);
    }
    if rows.is_empty() {
        rows.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    rows
}

fn row(view: &ImageView, (repository, tag, digest): &(String, String, String), id: String, now: Timestamp) -> Value {
    let image = &view.image;
    let size = ByteSize(image.size).decimal();
    json!({
        "Containers": view.containers.to_string(),
        "CreatedAt": humanise::local(image.created),
        "CreatedSince": humanise::ago(image.created, now),
        "Digest": digest,
        "ID": id,
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": size,
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": size,
        LABELS: {},
    })
}

#[cfg(test)]
mod tests {
    use super::{ImageView, identifier, names};
    use crate::base::Timestamp;
    use crate::state::record::Image;

    fn image(config: &[u8]) -> Image {
        let (created, pulled) = (Timestamp::NEVER, Timestamp::NEVER);
        let (id, config) = ("sha256:f".to_owned(), config.to_vec());
        Image { id, config, manifest_digest: None, manifest: None, manifest_type: None, layers: Vec::new(), size: 0, created, pulled }
    }

    #[test]
    fn short_ids() {
        assert_eq!(identifier("sha256:0123456789abcdef", true), "0123456789ab");
        assert_eq!(identifier("sha256:0123456789abcdef", false), "sha256:0123456789abcdef");
    }

    #[test]
    fn each_digest_has_a_row_where_digests_are_shown() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let view = |tags: &[&str], digests: &[(&str, &str)]| ImageView {
            image: image(b"{}"),
            tags: tags.iter().map(|text| text.parse().unwrap()).collect(),
            digests: digests.iter().map(|(name, digit)| format!("{name}@{}", digest(digit)).parse().unwrap()).collect(),
            containers: 0,
        };
        let rows = |view: &ImageView, every: bool| -> Vec<String> {
            names(view, every).iter().map(|(name, tag, digest)| format!("{name}:{tag} {}", digest.get(7..8).unwrap_or("-"))).collect()
        };
        let both = view(&["a:1", "a:2", "b:1"], &[("a", "1"), ("a", "2"), ("r/c", "3"), ("r/c", "4")]);
        assert_eq!(rows(&both, true), ["a:1 1", "a:1 2", "a:2 1", "a:2 2", "b:1 -", "r/c:<none> 3", "r/c:<none> 4"]);
        assert_eq!(rows(&both, false), ["a:1 1", "a:2 1", "b:1 -", "r/c:<none> 3"]);
        assert_eq!(rows(&view(&[], &[]), true), ["<none>:<none> -"]);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_shown_as_that() {
        let view = ImageView { image: image(b"{"), tags: Vec::new(), digests: Vec::new(), containers: 0 };
        assert_eq!(super::platform(&view), "<unreadable>");
    }
}
