//! Users as the configuration names them.

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and give commands.
    Operator,
}

impl Role {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What is allowed.
    pub role: Role,
    /// The token's hash, in the form of PHC strings.
    hash: String,
}

impl User {
    /// Reads `NAME:ROLE:HASH`.
    ///
    /// # Errors
    /// A sentence; the hash is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "each entry is NAME:ROLE:HASH, as `latrod dashboard --new-user NAME` prints it";
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(role), Some(hash)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(form.to_owned());
        };
        check_name(name)?;
        let role = match role {
            "viewer" => Role::Viewer,
            "operator" => Role::Operator,
            _ => return Err(format!("the role of {name} is neither viewer nor operator")),
        };
        PasswordHash::new(hash)
            .map_err(|_| format!("the hash of {name} cannot be read: {form}"))?;
        Ok(Self { name: name.to_owned(), role, hash: hash.to_owned() })
    }

    /// Whether the token is this user's. Takes some 20 ms and 19 MiB on purpose.
    #[must_use]
    pub fn has(&self, token: &str) -> bool {
        PasswordHash::new(&self.hash)
            .is_ok_and(|hash| Argon2::default().verify_password(token.as_bytes(), &hash).is_ok())
    }

    /// A new user's entry in the configuration.
    ///
    /// # Errors
    /// A name that cannot be used.
    pub fn entry(name: &str, role: Role, token: &str) -> Result<String, String> {
        check_name(name)?;
        let hash = Argon2::default().hash_password(token.as_bytes()).map_err(|e| e.to_string())?;
        Ok(format!("{name}:{}:{hash}", role.name()))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() || c == ':' || c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(odd) {
        return Err(format!(
            "a user's name has 1 to {MAX_NAME_BYTES} bytes, without spaces and colons"
        ));
    }
    Ok(())
}

/// Whether two words are the same, in a time that does not tell where they differ.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && differ == 0
}
