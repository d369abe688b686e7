//! What an app is promised, which is a part of what it may use.

use super::super::AppLimits;

pub(super) fn check(limits: &AppLimits) -> Result<(), String> {
    let (min, reserved) = (limits.memory_min_bytes, limits.memory_reservation_bytes);
    for (field, value) in [
        ("memory_min_bytes", min),
        ("memory_reservation_bytes", reserved),
    ] {
        match value {
            Some(0) => {
                return Err(format!("limits.{field} is 0; leave it out for no promise"));
            }
            Some(value) if value > limits.memory_bytes => {
                return Err(format!(
                    "limits.{field} is {value}, more than the app may use: limits.memory_bytes is {}",
                    limits.memory_bytes
                ));
            }
            _ => {}
        }
    }
    match (min, reserved) {
        (Some(min), Some(reserved)) if reserved < min => Err(format!(
            "limits.memory_reservation_bytes is {reserved}, less than limits.memory_min_bytes, {min}, which is kept harder"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(min: Option<u64>, reserved: Option<u64>) -> Result<(), String> {
        check(&AppLimits {
            memory_bytes: 100,
            memory_min_bytes: min,
            memory_reservation_bytes: reserved,
            ..AppLimits::default()
        })
    }

    #[test]
    fn a_promise_of_memory_lies_within_the_limit() {
        for (min, reserved) in [
            (None, None),
            (Some(100), None),
            (None, Some(100)),
            (Some(40), Some(40)),
        ] {
            assert_eq!(with(min, reserved), Ok(()));
        }
        for (min, reserved, field) in [
            (Some(0), None, "limits.memory_min_bytes is 0"),
            (Some(101), None, "limits.memory_min_bytes is 101"),
            (None, Some(101), "limits.memory_reservation_bytes is 101"),
            (Some(41), Some(40), "limits.memory_reservation_bytes is 40"),
        ] {
            let fault = with(min, reserved).unwrap_err();
            assert!(fault.starts_with(field), "{fault}");
        }
    }
}
