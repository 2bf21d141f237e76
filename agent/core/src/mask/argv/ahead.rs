//! Looking ahead in a text, many times, at the price of reading it once.
//!
//! Owns the bound of the work: command lines come from whoever is captured, and a search that began anew at each mark
//! would let `://` in a row hold the agent for seconds. Never decides what a credential is.

/// The next letter of one kind at or behind a place. Linear over all calls whose places do not go back; places that
/// do are answered rightly, at the price of a search of their own.
pub(super) struct Ahead<'a, F> {
    text: &'a str,
    is_kind: F,
    /// The last search began here and ended there.
    searched: Option<(usize, usize)>,
}

impl<'a, F: Fn(char) -> bool> Ahead<'a, F> {
    pub(super) const fn new(text: &'a str, is_kind: F) -> Self {
        Self { text, is_kind, searched: None }
    }

    /// Where the next one stands; the text's length where none does.
    pub(super) fn from(&mut self, at: usize) -> usize {
        if let Some((begin, end)) = self.searched
            && (begin..=end).contains(&at)
        {
            return end;
        }
        let rest = self.text.get(at..).unwrap_or_default();
        let end = rest.find(&self.is_kind).map_or(self.text.len(), |distance| at + distance);
        #[cfg(test)]
        READ.set(READ.get() + end.saturating_sub(at));
        self.searched = Some((at, end));
        end
    }
}

#[cfg(test)]
thread_local! {
    /// Bytes that searches have read, for the tests of their bound.
    pub(super) static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
