//! What a layer's directory looks like according to its tar, without touching a disk: the entries are replayed as
//! `tree.rs` unpacks them and `fixup.rs` finishes them.
//!
//! Invariant: wherever those two leave something to the file system or to the layers below, the model says so
//! (`Origin`) instead of guessing.

use super::super::tar::{Kind, Member, Reader};
use super::super::tree::{ACL_DEFAULT, components};
use super::super::xattr;
use super::super::{UnpackError, follow};
use crate::oci::whiteout::{self, Meaning};
use std::collections::BTreeMap;
use std::io::BufRead;

/// The node of the layer's root.
pub const ROOT: usize = 0;

/// A whole layer.
pub struct Model {
    /// Names point into it by index; two names of one index are hard links.
    pub nodes: Vec<Node>,
    /// Hard links to what only the layers below have: new name and target, in the order of the tar.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The root hides everything below.
    pub opaque_root: bool,
    /// Some directory was replaced by something else: what its later namesake inherits from it is not modelled.
    pub directory_replaced: bool,
    /// Names were added after the directories had got their times and ACLs.
    pub touched: bool,
}

pub struct Node {
    pub form: Form,
    pub origin: Origin,
}

pub enum Form {
    /// Logical bytes, and offset and length of the data of a sparse file.
    File(u64, Option<Vec<(u64, u64)>>),
    Symlink(Vec<u8>),
    /// Major and minor; 0:0 is a whiteout.
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Directory(Directory),
}

#[derive(Default)]
pub struct Directory {
    pub names: BTreeMap<Vec<u8>, usize>,
    pub opaque: bool,
}

/// Who describes a node.
pub enum Origin {
    /// A header of the tar.
    Header(Attributes),
    /// No header: a directory is described by the same one below, if there is one.
    Implicit,
    /// A whiteout: only its being there counts.
    Whiteout,
    /// A file of the layers below, copied from this path because a hard link needs it.
    Below(Vec<u8>),
}

pub struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    /// Replays a whole tar; the data of files is passed over.
    ///
    /// # Errors
    /// The stream cannot be read, or holds what the unpacker refuses.
    pub fn read<R: BufRead>(reader: &mut Reader<R>) -> Result<Self, UnpackError> {
        let root = Node { form: Form::Directory(Directory::default()), origin: Origin::Implicit };
        let mut model = Model { nodes: vec![root], links: Vec::new(), opaque_root: false, directory_replaced: false, touched: false };
        while let Some(member) = reader.next()? {
            model.add(member)?;
        }
        Ok(model)
    }

    fn add(&mut self, member: Member) -> Result<(), UnpackError> {
        let parts = components(&member.path)?;
        if parts.is_empty() {
            self.describe(ROOT, &member);
            return Ok(());
        }
        let real = self.follow(&parts)?;
        let parts = components(&real)?;
        let (name, parents) = parts.split_last().expect("invariant: the last name is kept");
        let directory = self.enter(parents)?;
        match whiteout::meaning(name) {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(()),
            Meaning::Invalid => return Err(UnpackError::Malformed("a whiteout without a name".to_owned())),
            Meaning::Opaque if directory == ROOT => {
                self.opaque_root = true;
                return Ok(());
            }
            Meaning::Opaque => {
                self.directory(directory).opaque = true;
                return Ok(());
            }
            Meaning::Removes(removed) => {
                self.whiteout(directory, removed);
                return Ok(());
            }
        }
        let form = match member.kind {
            Kind::Directory => {
                self.make_directory(directory, name, &member);
                return Ok(());
            }
            Kind::HardLink => return self.link(directory, &parts, &member),
            Kind::File => Form::File(member.size, member.extents.clone()),
            Kind::Symlink => Form::Symlink(member.link.clone()),
            Kind::Character => Form::Character(member.device.0, member.device.1),
            Kind::Block => Form::Block(member.device.0, member.device.1),
            Kind::Fifo => Form::Fifo,
        };
        let xattrs = if member.kind == Kind::File { member.xattrs } else { Vec::new() };
        let xattrs = xattrs.into_iter().filter(|(name, _)| xattr::allowed(name)).collect();
        let origin = Origin::Header(Attributes { mode: member.mode, uid: member.uid, gid: member.gid, mtime: member.mtime, xattrs });
        let node = self.push(form, origin);
        self.put(directory, name, node);
        Ok(())
    }

    fn push(&mut self, form: Form, origin: Origin) -> usize {
        self.nodes.push(Node { form, origin });
        self.nodes.len() - 1
    }

    /// The directory at this index.
    pub fn directory(&mut self, at: usize) -> &mut Directory {
        match &mut self.nodes[at].form {
            Form::Directory(directory) => directory,
            _ => unreachable!("invariant: only the index of a directory is asked for"),
        }
    }

    fn child(&self, at: usize, name: &[u8]) -> Option<usize> {
        match &self.nodes[at].form {
            Form::Directory(directory) => directory.names.get(name).copied(),
            _ => None,
        }
    }

    /// The node at this path.
    pub fn find(&self, path: &[&[u8]]) -> Option<usize> {
        path.iter().try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// The path without symbolic links on the way to its last name.
    fn follow(&self, path: &[&[u8]]) -> Result<Vec<u8>, UnpackError> {
        let Some((name, parents)) = path.split_last() else { return Ok(Vec::new()) };
        let link = |at: &[Vec<u8>]| {
            let parts: Vec<&[u8]> = at.iter().map(Vec::as_slice).collect();
            Ok::<_, UnpackError>(self.find(&parts).and_then(|node| match &self.nodes[node].form {
                Form::Symlink(target) => Some(target.clone()),
                _ => None,
            }))
        };
        let real = follow::resolve(parents, link)?;
        let mut real = real.ok_or_else(|| UnpackError::Malformed("an entry beneath too many symbolic links".to_owned()))?;
        real.push(name.to_vec());
        Ok(real.join(&b'/'))
    }

    /// Gives `name` to a node, whatever had it.
    fn put(&mut self, directory: usize, name: &[u8], node: usize) {
        let before = self.directory(directory).names.insert(name.to_vec(), node);
        self.directory_replaced |= before.is_some_and(|before| matches!(self.nodes[before].form, Form::Directory(_)));
    }

    fn implicit(&mut self, directory: usize, name: &[u8], opaque: bool) -> usize {
        let node = self.push(Form::Directory(Directory { opaque, ..Directory::default() }), Origin::Implicit);
        self.put(directory, name, node);
        node
    }

    /// The directory of this path, made where the tar does not describe it.
    fn enter(&mut self, parents: &[&[u8]]) -> Result<usize, UnpackError> {
        let mut at = ROOT;
        for part in parents {
            at = match self.child(at, part) {
                None => self.implicit(at, part, false),
                Some(node) if matches!(self.nodes[node].form, Form::Directory(_)) => node,
                Some(node) if self.is_whiteout(node) => self.implicit(at, part, true),
                Some(_) => return Err(UnpackError::Malformed("an entry beneath what is no directory".to_owned())),
            };
        }
        Ok(at)
    }

    fn is_whiteout(&self, node: usize) -> bool {
        matches!(self.nodes[node].form, Form::Character(0, 0))
    }

    fn whiteout(&mut self, directory: usize, name: &[u8]) {
        match self.child(directory, name) {
            None => {
                let node = self.push(Form::Character(0, 0), Origin::Whiteout);
                self.put(directory, name, node);
            }
            Some(node) => {
                if let Form::Directory(directory) = &mut self.nodes[node].form {
                    directory.opaque = true;
                }
            }
        }
    }

    fn make_directory(&mut self, parent: usize, name: &[u8], member: &Member) {
        let node = match self.child(parent, name) {
            Some(node) if matches!(self.nodes[node].form, Form::Directory(_)) => node,
            other => {
                let opaque = other.is_some_and(|node| self.is_whiteout(node));
                self.implicit(parent, name, opaque)
            }
        };
        self.describe(node, member);
    }

    /// A header describes a directory, perhaps once more: attributes add up, except the default ACL, which is set
    /// at the end.
    fn describe(&mut self, node: usize, member: &Member) {
        let mut xattrs = match &mut self.nodes[node].origin {
            Origin::Header(before) => std::mem::take(&mut before.xattrs),
            _ => BTreeMap::new(),
        };
        xattrs.remove(ACL_DEFAULT);
        // The first of two default ACLs in one header is the one that is set.
        for (name, value) in member.xattrs.iter().filter(|(name, _)| xattr::allowed(name)) {
            if name != ACL_DEFAULT || !xattrs.contains_key(ACL_DEFAULT) {
                xattrs.insert(name.clone(), value.clone());
            }
        }
        self.nodes[node].origin = Origin::Header(Attributes { mode: member.mode, uid: member.uid, gid: member.gid, mtime: member.mtime, xattrs });
    }

    fn link(&mut self, directory: usize, parts: &[&[u8]], member: &Member) -> Result<(), UnpackError> {
        let target = self.follow(&components(&member.link)?)?;
        let target = components(&target)?;
        if target == parts {
            return Ok(());
        }
        match self.find(&target) {
            Some(node) if matches!(self.nodes[node].form, Form::Directory(_)) => {
                return Err(UnpackError::Malformed("a hard link to a directory".to_owned()));
            }
            Some(node) => self.put(directory, parts[parts.len() - 1], node),
            None => self.links.push((parts.join(&b'/'), target.join(&b'/'))),
        }
        Ok(())
    }

    /// What `fixup.rs` does once the layers below are there, as far as it adds names.
    ///
    /// # Errors
    /// A link beneath what is no directory.
    pub fn link_below(&mut self) -> Result<(), UnpackError> {
        self.touched |= !self.links.is_empty() || self.opaque_root;
        for (path, target) in std::mem::take(&mut self.links) {
            let (parts, target) = (components(&path)?, components(&target)?);
            let (Some((name, parents)), Some((target_name, target_parents))) = (parts.split_last(), target.split_last()) else { continue };
            let directory = self.enter(parents)?;
            if self.child(directory, name).is_some() {
                continue;
            }
            let node = match self.find(&target) {
                Some(node) => node,
                None => {
                    let holder = self.enter(target_parents)?;
                    let node = self.push(Form::File(0, None), Origin::Below(target.join(&b'/')));
                    self.put(holder, target_name, node);
                    node
                }
            };
            self.put(directory, name, node);
        }
        Ok(())
    }

    /// What an opaque root adds, given the names in the root of a layer below.
    pub fn hide(&mut self, name: &[u8]) {
        self.whiteout(ROOT, name);
    }
}
