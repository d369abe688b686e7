//! How much each input counts: the sum of a decision's inputs, and what the decision teaches.
//!
//! Numbers are held as small as they may get, so that compilers take several at a time.

/// Bound of a weight, 16.16: keeps sums in range.
const WEIGHT_MAX: i32 = 1 << 22;

/// How much each input counts, 16.16.
#[derive(Clone, Debug)]
pub(super) struct Weights<const INPUTS: usize> {
    inputs: [i32; INPUTS],
    pub(super) bias: i32,
    /// Decisions that taught it, as long as it learns faster.
    pub(super) taught: u32,
}

impl<const INPUTS: usize> Weights<INPUTS> {
    pub(super) fn new(inputs: [i32; INPUTS]) -> Self {
        Self {
            inputs,
            bias: 0,
            taught: 0,
        }
    }

    #[cold]
    fn hold(&mut self) {
        for weight in self.inputs.iter_mut().chain([&mut self.bias]) {
            *weight = (*weight).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        }
    }
}

/// What the inputs sum up to.
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
pub(super) fn sum<const INPUTS: usize>(
    coarse: &Weights<INPUTS>,
    fine: &Weights<INPUTS>,
    inputs: &[i32; INPUTS],
) -> i64 {
    // x86-64 as such multiplies several numbers of 16 bits at a time, but no larger ones with a sign.
    if cfg!(target_arch = "x86_64") {
        sum_of_halves(coarse, fine, inputs)
    } else {
        sum_as_it_is(coarse, fine, inputs)
    }
}

#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
fn sum_as_it_is<const INPUTS: usize>(
    coarse: &Weights<INPUTS>,
    fine: &Weights<INPUTS>,
    inputs: &[i32; INPUTS],
) -> i64 {
    let weights = coarse.inputs.iter().zip(&fine.inputs);
    weights
        .zip(inputs)
        .map(|((coarse, fine), input)| i64::from(coarse + fine) * i64::from(*input))
        .sum()
}

/// Weights have 24 bits with their sign, inputs 13: each half of a weight times an input fits 25, and 64 of them 31.
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
fn sum_of_halves<const INPUTS: usize>(
    coarse: &Weights<INPUTS>,
    fine: &Weights<INPUTS>,
    inputs: &[i32; INPUTS],
) -> i64 {
    const { assert!(INPUTS <= 64) };
    let (mut high, mut low) = (0, 0);
    let weights = coarse.inputs.iter().zip(&fine.inputs);
    for ((coarse, fine), input) in weights.zip(inputs) {
        let (weight, input) = (coarse + fine, *input as i16);
        high += i32::from((weight >> 12) as i16) * i32::from(input);
        low += i32::from((weight & 4095) as i16) * i32::from(input);
    }
    (i64::from(high) << 12) + i64::from(low)
}

/// Moves weights by `input * error`, which has 20 or 21 bits too many; rounded, as a mean step of less than one
/// counts too. An input has 12 bits, an error 19, beside their signs.
#[cfg_attr(feature = "make", inline(always))]
#[cfg_attr(not(feature = "make"), inline)]
pub(super) fn learn<const INPUTS: usize>(
    coarse: &mut Weights<INPUTS>,
    fine: &mut Weights<INPUTS>,
    inputs: &[i32; INPUTS],
    error: i32,
) {
    // Whether any weight came to its bound is asked once.
    let beyond = |weight: i32| (weight + WEIGHT_MAX) as u32;
    let mut most = 0;
    let weights = coarse.inputs.iter_mut().zip(&mut fine.inputs);
    for ((coarse, fine), input) in weights.zip(inputs) {
        let step = *input * error;
        *fine += (step + (1 << 19)) >> 20;
        *coarse += (step + (1 << 20)) >> 21;
        most |= beyond(*fine) | beyond(*coarse);
    }
    let step = 256 * error;
    fine.bias += (step + (1 << 19)) >> 20;
    coarse.bias += (step + (1 << 20)) >> 21;
    most |= beyond(fine.bias) | beyond(coarse.bias);
    if most >= 2 * WEIGHT_MAX as u32 {
        fine.hold();
        coarse.hold();
    }
}

/// The same while coarse weights learn so many times as fast.
#[cold]
pub(super) fn learn_soon<const INPUTS: usize>(
    coarse: &mut Weights<INPUTS>,
    fine: &mut Weights<INPUTS>,
    inputs: &[i32; INPUTS],
    error: i32,
    hurry: u32,
) {
    let step = |weight: &mut i32, step: i64, bits: u32| {
        *weight += ((step + (1 << (bits - 1))) >> bits) as i32;
    };
    let (error, hurried) = (i64::from(error), i64::from(error) * i64::from(hurry));
    let weights = coarse.inputs.iter_mut().zip(&mut fine.inputs);
    for ((coarse, fine), input) in weights.zip(inputs) {
        step(fine, i64::from(*input) * error, 20);
        step(coarse, i64::from(*input) * hurried, 21);
    }
    step(&mut fine.bias, 256 * error, 20);
    step(&mut coarse.bias, 256 * hurried, 21);
    fine.hold();
    coarse.hold();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::delta::mix::LOGIT_MAX;

    fn weights() -> impl Strategy<Value = Weights<20>> {
        let weight = prop_oneof![
            -WEIGHT_MAX..=WEIGHT_MAX,
            Just(WEIGHT_MAX),
            Just(-WEIGHT_MAX)
        ];
        let all = proptest::array::uniform20(weight.clone());
        (all, weight).prop_map(|(all, bias)| Weights {
            bias,
            ..Weights::new(all)
        })
    }

    fn inputs() -> impl Strategy<Value = [i32; 20]> {
        let most = LOGIT_MAX - 1;
        proptest::array::uniform20(prop_oneof![-LOGIT_MAX..=most, Just(-LOGIT_MAX), Just(most)])
    }

    proptest! {
        #[test]
        fn halves_of_weights_sum_up_to_the_same(
            coarse in weights(), fine in weights(), inputs in inputs()
        ) {
            let whole = sum_as_it_is(&coarse, &fine, &inputs);
            prop_assert_eq!(sum_of_halves(&coarse, &fine, &inputs), whole);
        }

        #[test]
        fn weights_learn_the_same_by_small_numbers_and_stay_in_their_bounds(
            coarse in weights(), fine in weights(), inputs in inputs(), error in -65535i32..=65535
        ) {
            let (mut soon, mut late) = ([coarse.clone(), fine.clone()], [coarse, fine]);
            let [coarse, fine] = &mut soon;
            learn_soon(coarse, fine, &inputs, error * 8, 1);
            let [coarse, fine] = &mut late;
            learn(coarse, fine, &inputs, error * 8);
            for (soon, late) in soon.iter().zip(&late) {
                prop_assert_eq!(soon.inputs, late.inputs);
                prop_assert_eq!(soon.bias, late.bias);
                prop_assert!(soon.inputs.iter().all(|weight| weight.abs() <= WEIGHT_MAX));
            }
        }
    }
}
