//! What stands behind the question mark of an address: which devices, in which order, which page.

use form_urlencoded::Serializer;

use crate::dashboard::fleet::{Filter, Sort, Status};
use crate::settings::Choice;

/// Longest value that is looked at, in characters.
const MAX_CHARS: usize = 200;

/// A list of devices that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Which devices.
    pub filter: Filter,
    /// In which order.
    pub sort: Sort,
    /// Whether from the end.
    pub descending: bool,
    /// Which page, from 1.
    pub page: usize,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { filter: Filter::default(), sort: Sort::Name, descending: false, page: 1 }
    }
}

impl ListQuery {
    /// Reads what follows the question mark; what cannot be understood is as if it were not there.
    pub fn parse(query: &str) -> Self {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value: String = value.trim().chars().take(MAX_CHARS).collect();
            match &*name {
                "q" => read.filter.text = value,
                "status" => read.filter.status = Status::of(&value),
                "state" => read.filter.state = value,
                "tag" => read.filter.tag = value,
                "adapter" => read.filter.adapter = value,
                "alarm" => read.filter.alarm = value,
                "sort" => {
                    let (word, descending) = match value.strip_prefix('-') {
                        Some(word) => (word, true),
                        None => (value.as_str(), false),
                    };
                    if let Some(sort) = Sort::of_word(word) {
                        (read.sort, read.descending) = (sort, descending);
                    }
                }
                "page" => read.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        read
    }

    /// The filter alone, as it stands in an address; empty if nothing is asked for.
    pub fn filter_text(filter: &Filter) -> String {
        let mut text = Serializer::new(String::new());
        let status = filter.status.map_or("", Status::name);
        let pairs = [
            ("q", filter.text.as_str()),
            ("status", status),
            ("state", &filter.state),
            ("tag", &filter.tag),
            ("adapter", &filter.adapter),
            ("alarm", &filter.alarm),
        ];
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            text.append_pair(name, value);
        }
        text.finish()
    }

    /// The address of this list.
    pub fn address(&self) -> String {
        let mut text = Self::filter_text(&self.filter);
        let mut add = |pair: String| {
            if !text.is_empty() {
                text.push('&');
            }
            text += &pair;
        };
        if self.sort != Sort::Name || self.descending {
            let sign = if self.descending { "-" } else { "" };
            add(format!("sort={sign}{}", self.sort.word()));
        }
        if self.page > 1 {
            add(format!("page={}", self.page));
        }
        if text.is_empty() { "/".to_owned() } else { format!("/?{text}") }
    }

    /// The list of the devices that have a value, for links.
    pub fn only(name: &str, value: &str) -> String {
        let mut text = Serializer::new(String::new());
        text.append_pair(name, value);
        format!("/?{}", text.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_understood_is_left_out() {
        let read = ListQuery::parse("sort=-gain&page=3&status=silent&tag=site%3Dberlin&x=y");
        assert_eq!((read.sort, read.descending, read.page), (Sort::Gain, true, 3));
        assert_eq!(read.filter.status, Some(Status::Silent));
        assert_eq!(read.filter.tag, "site=berlin");
        assert_eq!(ListQuery::parse("sort=nothing&page=-1&status=on"), ListQuery::default());
        assert_eq!(ListQuery::default().address(), "/");
    }

    proptest! {
        /// An address means the list that it was made of, whatever is in it.
        #[test]
        fn addresses_come_back(text in "[^ ]{0,20}", tag in "[a-z=&%+]{0,9}", page in 1_usize..999) {
            let filter = Filter { text: text.trim().to_owned(), tag, ..Filter::default() };
            let query = ListQuery { filter, sort: Sort::Step, descending: true, page };
            let address = query.address();
            prop_assert_eq!(ListQuery::parse(address.strip_prefix("/?").unwrap()), query);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = ListQuery::parse(&text);
        }
    }
}
