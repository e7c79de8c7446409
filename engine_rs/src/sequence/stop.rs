//! Finds stop strings in streamed text and holds back what may turn out to begin one.

/// Watches the text of one answer.
///
/// The stop string that is complete first ends the answer; of several that end at the same place, the longest does.
/// So the result does not depend on how the text is cut into pieces.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far, as long as it may begin a stop string.
    held: String,
}

impl StopStrings {
    /// Watches for any of `stops`; empty ones are ignored.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Takes a piece of text and appends what is safe to show to `out`. True when a stop string was completed:
    /// the text before it is in `out`, the rest is gone.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(text);
            return false;
        }
        let old = self.held.len();
        self.held.push_str(text);
        for end in old + 1..=self.held.len() {
            let so_far = &self.held.as_bytes()[..end];
            let complete = self.stops.iter().filter(|stop| so_far.ends_with(stop.as_bytes()));
            if let Some(longest) = complete.map(String::len).max() {
                out.push_str(&self.held[..end - longest]);
                self.held.clear();
                return true;
            }
        }
        let safe = self.held.len() - self.begun();
        out.push_str(&self.held[..safe]);
        self.held.drain(..safe);
        false
    }

    /// Ends the text: nothing can complete a stop string any more.
    pub fn flush(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Length of the longest end of the text that begins a stop string.
    fn begun(&self) -> usize {
        let text = self.held.as_bytes();
        let begun = |stop: &String| {
            let longest = text.len().min(stop.len() - 1);
            (1..=longest).rev().find(|len| text.ends_with(&stop.as_bytes()[..*len])).unwrap_or(0)
        };
        self.stops.iter().map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StopStrings;

    fn stream(stops: &[String], pieces: &[&str]) -> (String, bool) {
        let mut watch = StopStrings::new(stops.to_vec());
        let mut out = String::new();
        for piece in pieces {
            if watch.push(piece, &mut out) {
                return (out, true);
            }
        }
        watch.flush(&mut out);
        (out, false)
    }

    /// The text before the stop string that ends first, found by looking at the whole.
    fn search(stops: &[String], text: &str) -> (String, bool) {
        let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
        match found.min() {
            Some((_, start)) => (text[..start].to_owned(), true),
            None => (text.to_owned(), false),
        }
    }

    fn owned(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|stop| (*stop).to_owned()).collect()
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_search_of_the_whole_gives(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let text = pieces.concat();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(stream(&stops, &pieces), search(&stops, &text));
        }

        #[test]
        fn nothing_is_held_that_cannot_begin_a_stop_string(text in "[ab]{0,12}", stop in "[ab]{1,4}") {
            let mut watch = StopStrings::new(vec![stop.clone()]);
            let mut out = String::new();
            if !watch.push(&text, &mut out) {
                prop_assert!(stop.starts_with(&text[out.len()..]));
            }
        }
    }

    #[test]
    fn a_stop_string_across_pieces_is_not_shown() {
        assert_eq!(stream(&owned(&["\n\nUser:"]), &["Hi.\n", "\nUs", "er: x"]), ("Hi.".into(), true));
    }

    #[test]
    fn a_false_start_is_shown_once_it_is_over() {
        let mut watch = StopStrings::new(owned(&["END"]));
        let mut out = String::new();
        assert!(!watch.push("the EN", &mut out));
        assert_eq!(out, "the ");
        assert!(!watch.push("T", &mut out));
        assert_eq!(out, "the ENT");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        assert_eq!(stream(&owned(&["abcd", "bc"]), &["abcd"]), ("a".into(), true));
    }

    #[test]
    fn empty_stop_strings_stop_nothing() {
        assert_eq!(stream(&owned(&[""]), &["text"]), ("text".into(), false));
    }
}
