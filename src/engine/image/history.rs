//! `history`: the steps an image was built in.

use crate::base::Timestamp;
use crate::engine::{Engine, Reference, Result};
use crate::oci::ImageDocument;

/// One step, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The image's id on its newest step; the others have none here.
    pub id: Option<String>,
    pub created: Timestamp,
    pub created_by: String,
    /// Bytes of the files of its layer; 0 for a step without one.
    pub size: u64,
    pub comment: String,
    /// Names of the image, on its newest step.
    pub tags: Vec<String>,
}

impl Engine {
    /// The steps of an image, newest first. Layers that no step describes are steps of their own.
    ///
    /// # Errors
    /// `NoSuch` or `Ambiguous`; a damaged config document.
    pub fn history(&self, name: &str) -> Result<Vec<Step>> {
        let view = self.image(name)?;
        let document = super::described(&view.image)?;
        let sizes: Vec<u64> = self.db.layers(&view.image.layers)?.iter().map(|layer| layer.size).collect();
        let mut steps = steps(&document, &sizes);
        if let Some(newest) = steps.first_mut() {
            newest.id = Some(view.image.id.clone());
            newest.tags = view.tags.iter().map(Reference::familiar).collect();
        }
        Ok(steps)
    }
}

fn steps(document: &ImageDocument, sizes: &[u64]) -> Vec<Step> {
    let mut sizes = sizes.iter().copied();
    let time = |text: Option<&str>| text.and_then(Timestamp::parse_rfc3339).unwrap_or(Timestamp::NEVER);
    let step = |created, created_by: String, size, comment: String| Step { id: None, created, created_by, size, comment, tags: Vec::new() };
    let mut steps: Vec<Step> = Vec::new();
    for entry in &document.history {
        let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        steps.push(step(time(entry.created.as_deref()), text(&entry.created_by), size, text(&entry.comment)));
    }
    steps.extend(sizes.map(|size| step(time(document.created.as_deref()), String::new(), size, String::new())));
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_meet_their_layers() {
        let document: ImageDocument = serde_json::from_str(
            r#"{"created":"2024-01-02T03:04:05Z","history":[{"created_by":"ADD x","created":"2020-01-01T00:00:00Z"},
               {"created_by":"ENV A=b","empty_layer":true},{"created_by":"RUN y","comment":"c"}]}"#,
        )
        .unwrap();
        let found: Vec<(String, u64)> = steps(&document, &[10, 20, 30]).into_iter().map(|s| (s.created_by, s.size)).collect();
        let expected = [("", 30), ("RUN y", 20), ("ENV A=b", 0), ("ADD x", 10)].map(|(by, size)| (by.to_owned(), size));
        assert_eq!(found, expected);
        assert_eq!(steps(&ImageDocument::default(), &[]), []);
    }
}
