//! Which CPUs are whose. An app that asks for some of its own has the last ones of the board; everybody else shares the
//! others, the first of which is the board's whatever is asked for.

use coracle_protocol::names::AppName;

/// Beyond what any kernel is built for (NR_CPUS).
const MOST_CPUS: usize = 8192;

/// What each app may run on, in the order of `wanted`; `None`: whatever the board has, since nobody asks for any. `all` is
/// the board's list, as `0-3,6`.
pub fn share_out(all: &str, wanted: &[(&AppName, u32)]) -> Result<Vec<Option<String>>, String> {
    if wanted.iter().all(|(_, count)| *count == 0) {
        return Ok(vec![None; wanted.len()]);
    }
    let mut left = numbers(all).ok_or_else(|| format!("`{all}` is no list of CPUs"))?;
    let mut own = Vec::with_capacity(wanted.len());
    for (name, count) in wanted {
        let from = left.len().checked_sub(*count as usize);
        let Some(from) = from.filter(|from| *from > 0) else {
            return Err(format!(
                "limits.cpus_exclusive of app `{name}` is {count}, and of the CPUs {all} of this board {} are left, of which it keeps one",
                left.len()
            ));
        };
        own.push(left.split_off(from));
    }
    let list = |cpus: &[u32]| {
        let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
        cpus.join(",")
    };
    let shared = list(&left);
    let of = |own: &Vec<u32>| match own.is_empty() {
        true => shared.clone(),
        false => list(own),
    };
    Ok(own.iter().map(|own| Some(of(own))).collect())
}

/// Of a list such as `0-3,6`, in its order.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || (last - first) as usize >= MOST_CPUS - all.len() {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(all: &str, wanted: &[u32]) -> Result<Vec<Option<String>>, String> {
        let name = AppName::new("web").unwrap();
        let wanted: Vec<_> = wanted.iter().map(|count| (&name, *count)).collect();
        share_out(all, &wanted)
    }

    #[test]
    fn no_cpu_is_two_apps_own_and_the_first_is_the_boards() {
        let of = |all, wanted: &[u32]| {
            let cpus = shared(all, wanted).unwrap().into_iter();
            cpus.map(Option::unwrap).collect::<Vec<_>>()
        };
        assert_eq!(of("0-3", &[0, 2, 0, 1]), ["0", "2,3", "0", "1"]);
        assert_eq!(of("0-1\n", &[1]), ["1"]);
        assert_eq!(of("0,2-3,9", &[0, 1]), ["0,2,3", "9"]);
        assert_eq!(shared("0", &[0, 0]), Ok(vec![None, None]));
    }

    #[test]
    fn more_than_there_are_is_nobodys() {
        for (all, wanted) in [("0-1", &[2][..]), ("0-3", &[2, 2]), ("0", &[1])] {
            let fault = shared(all, wanted).unwrap_err();
            assert!(
                fault.contains("`web`") && fault.contains("keeps one"),
                "{fault}"
            );
        }
        for nonsense in ["", "x", "3-1", "0-4294967295", "0-8191,1"] {
            assert!(shared(nonsense, &[1]).is_err(), "{nonsense}");
        }
    }
}
