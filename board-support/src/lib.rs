//! What a board is: profile, detection, budget
