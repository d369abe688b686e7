//! What an app is promised, which is a part of what it may use, and what lies beside it: swap, and CPU that it has saved up.

use super::super::NamedLimits;

pub(super) fn check(limits: &NamedLimits) -> Result<(), String> {
    memory(limits)?;
    swap(limits)?;
    burst(limits)?;
    cpus(limits)
}

fn swap(limits: &NamedLimits) -> Result<(), String> {
    match (limits.memory_swap_bytes, limits.memory_bytes) {
        (Some(both), Some(memory)) if both < memory => Err(format!(
            "limits.memory_swap_bytes is {both}, less than limits.memory_bytes, {memory}: it is memory and swap together"
        )),
        _ => Ok(()),
    }
}

/// The kernel takes no burst beyond the quota of one period, which is 100 ms (sched-bwc.rst).
fn burst(limits: &NamedLimits) -> Result<(), String> {
    let quota = limits.cpu_millis.map(|millis| 100 * u64::from(millis));
    match (limits.cpu_burst_micros, quota) {
        (Some(0), _) => Err("limits.cpu_burst_micros is 0; leave it out for no burst".into()),
        (Some(burst), Some(quota)) if burst > quota => Err(format!(
            "limits.cpu_burst_micros is {burst}, more than limits.cpu_millis gives in 100 ms, {quota}"
        )),
        _ => Ok(()),
    }
}

fn cpus(limits: &NamedLimits) -> Result<(), String> {
    match (limits.cpus_exclusive, limits.cpu_millis) {
        (Some(0), _) => {
            Err("limits.cpus_exclusive is 0; leave it out for no CPU of its own".into())
        }
        (Some(cpus), Some(millis)) if u64::from(millis) > 1000 * u64::from(cpus) => Err(format!(
            "limits.cpu_millis is {millis}, more than the CPUs carry that the app runs on: limits.cpus_exclusive is {cpus}"
        )),
        _ => Ok(()),
    }
}

fn memory(limits: &NamedLimits) -> Result<(), String> {
    let (min, reserved) = (limits.memory_min_bytes, limits.memory_reservation_bytes);
    for (field, value) in [
        ("memory_min_bytes", min),
        ("memory_reservation_bytes", reserved),
    ] {
        match (value, limits.memory_bytes) {
            (Some(0), _) => {
                return Err(format!("limits.{field} is 0; leave it out for no promise"));
            }
            (Some(value), Some(most)) if value > most => {
                return Err(format!(
                    "limits.{field} is {value}, more than the app may use: limits.memory_bytes is {most}"
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
        memory(&NamedLimits {
            memory_bytes: Some(100),
            memory_min_bytes: min,
            memory_reservation_bytes: reserved,
            ..NamedLimits::default()
        })
    }

    #[test]
    fn cpus_of_its_own_carry_what_it_may_use() {
        let with = |cpu_millis, cpus| {
            check(&NamedLimits {
                memory_bytes: Some(100),
                cpu_millis: Some(cpu_millis),
                cpus_exclusive: cpus,
                ..NamedLimits::default()
            })
        };
        assert_eq!(with(5000, None), Ok(()));
        assert_eq!(with(2000, Some(2)), Ok(()));
        assert_eq!(with(10, Some(u32::MAX)), Ok(()));
        assert!(
            with(10, Some(0))
                .unwrap_err()
                .contains("cpus_exclusive is 0")
        );
        let fault = with(2001, Some(2)).unwrap_err();
        assert!(fault.starts_with("limits.cpu_millis is 2001"), "{fault}");
    }

    #[test]
    fn swap_comes_with_memory_and_a_burst_stays_within_the_quota() {
        let with = |both, burst| {
            check(&NamedLimits {
                memory_bytes: Some(100),
                memory_swap_bytes: both,
                cpu_millis: Some(500),
                cpu_burst_micros: burst,
                ..NamedLimits::default()
            })
        };
        assert_eq!(with(Some(100), Some(50_000)), Ok(()));
        assert_eq!(with(Some(1000), Some(1)), Ok(()));
        for (both, burst, field) in [
            (Some(99), None, "limits.memory_swap_bytes is 99"),
            (None, Some(0), "limits.cpu_burst_micros is 0"),
            (None, Some(50_001), "limits.cpu_burst_micros is 50001"),
        ] {
            let fault = with(both, burst).unwrap_err();
            assert!(fault.starts_with(field), "{fault}");
        }
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
