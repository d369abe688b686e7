//! What serde lets pass and a signed document must not: a key that stands twice in a map, a member
//! that stands twice in a set. Two readers could take different ones of the two; here none is taken.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::marker::PhantomData;

/// Longest activity name, in bytes: room for a `sha256:` digest or a UUID with a prefix.
const ACTIVITY_BYTES: usize = 128;

/// A map without a key twice. (serde's derive refuses this for structs, but takes the last for maps.)
pub(crate) fn map<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Debug,
    V: Deserialize<'de>,
{
    struct Map<K, V>(PhantomData<(K, V)>);
    impl<'de, K, V> Visitor<'de> for Map<K, V>
    where
        K: Deserialize<'de> + Ord + Debug,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map in which no key stands twice")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some(key) = access.next_key::<K>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format!("key {key:?} stands twice")));
                }
                let value = access.next_value()?;
                map.insert(key, value);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Map(PhantomData))
}

/// A set without a member twice.
pub(crate) fn set<'de, D, T>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Ord + Debug,
{
    struct Set<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Ord + Debug> Visitor<'de> for Set<T> {
        type Value = BTreeSet<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list in which nothing stands twice")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut set = BTreeSet::new();
            while let Some(member) = access.next_element::<T>()? {
                if let Some(twice) = set.replace(member) {
                    return Err(A::Error::custom(format!("{twice:?} stands twice")));
                }
            }
            Ok(set)
        }
    }
    deserializer.deserialize_seq(Set(PhantomData))
}

/// The name of a deployment in messages: it is not signed and ends up in logs and journals, so that it
/// is held to 1 to 128 visible ASCII characters.
pub(crate) fn activity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if (1..=ACTIVITY_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(D::Error::custom(format!(
            "an activity is 1 to {ACTIVITY_BYTES} visible ASCII characters"
        )))
    }
}
