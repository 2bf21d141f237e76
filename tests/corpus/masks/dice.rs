//! What the corpus of masks is rolled with: numbers from a seed, the same on every machine. Never secret.

/// Numbers without end from a seed (`SplitMix64`).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap_or_default()
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        *list.get(self.below(list.len())).unwrap_or_else(|| unreachable!("lists are not empty"))
    }

    pub fn string(&mut self, alphabet: &str, length: usize) -> String {
        (0..length).map(|_| char::from(self.one_of(alphabet.as_bytes()))).collect()
    }

    /// What `form` stands for: `#` a digit, `@` a lower-case letter, `^` an upper-case one, `%` a hexadecimal digit.
    pub fn form(&mut self, form: &str) -> String {
        let place = |letter| match letter {
            '#' => self.string(DIGITS, 1),
            '@' => self.string(LOWER, 1),
            '^' => self.string(UPPER, 1),
            '%' => self.string(HEXADECIMAL, 1),
            other => other.to_string(),
        };
        form.chars().map(place).collect()
    }
}

pub const DIGITS: &str = "0123456789";
pub const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
pub const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
pub const HEXADECIMAL: &str = "0123456789abcdef";
pub const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
pub const TOKEN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
