//! The code map of ARCHITECTURE.md: which folder of `src/` may use which.

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    pub folder: String,
    /// What its code may use.
    pub uses: Vec<String>,
    /// What its tests may use besides.
    pub tests_use: Vec<String>,
}

/// Reads the table whose columns are `folder`, `owns`, `doesn't know` and `may use`.
///
/// Folders stand in backquotes, in the first column with a slash at the end; `nothing` says that a folder
/// uses no other. What tests use besides follows the word `tests:`.
///
/// # Errors
/// What is wrong with the table.
pub fn read(markdown: &str) -> Result<Vec<Row>, String> {
    let header = ["folder", "owns", "doesn't know", "may use"];
    let mut lines = markdown.lines().map(cells).skip_while(|cells| *cells != header);
    lines
        .next()
        .ok_or_else(|| format!("ARCHITECTURE.md has no table with the columns {header:?}"))?;
    lines.skip(1).take_while(|cells| !cells.is_empty()).map(row).collect()
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map_or(Vec::new(), |line| line.split('|').map(str::trim).collect())
}

fn row(cells: Vec<&str>) -> Result<Row, String> {
    let [first, _, _, uses] = cells[..] else {
        return Err(format!("the row {cells:?} of the code map does not have four columns"));
    };
    let folder = first.strip_prefix('`').and_then(|name| name.strip_suffix("/`"));
    let folder =
        folder.ok_or_else(|| format!("{first:?} in the code map is not written `name/`"))?;
    let (code, tests) = uses.split_once("tests:").unwrap_or((uses, ""));
    let row = Row { folder: folder.to_owned(), uses: quoted(code), tests_use: quoted(tests) };
    if row.uses.is_empty() != code.contains("nothing") {
        return Err(format!(
            "the code map lets {folder} use {code:?}: neither folders nor `nothing`"
        ));
    }
    Ok(row)
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "| folder | owns | doesn't know | may use |\n|---|---|---|---|\n";

    #[test]
    fn a_row_names_what_code_and_tests_may_use() {
        let text = format!(
            "| a | b |\n|---|---|\n| x | y |\n\n{HEADER}| `b/` | all | that | `a`; tests: `c`, `d` |\n\
             | `a/` | this | | nothing |\n\n| `z/` | no | row | `a` |\n"
        );

        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = [
            Row { folder: "b".into(), uses: names(&["a"]), tests_use: names(&["c", "d"]) },
            Row { folder: "a".into(), ..Row::default() },
        ];
        assert_eq!(read(&text).unwrap(), expected);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error() {
        let fails = |row: &str| read(&format!("{HEADER}{row}\n")).unwrap_err();
        assert!(read("| folder | owns |\n").unwrap_err().contains("no table"));
        assert!(fails("| `a/` | b | nothing |").contains("four columns"));
        assert!(fails("| a | b | c | nothing |").contains("`name/`"));
        assert!(fails("| `a/` | b | c | |").contains("neither"));
        assert!(fails("| `a/` | b | c | nothing but `b` |").contains("neither"));
    }
}
