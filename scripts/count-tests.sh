# shellcheck shell=bash
# Reads the results of test runners from their logs. To be sourced, by bash.
#
# count_tests <log>
#   Prints "<passed> <failed> <skipped>", summed over every summary in the log:
#     cargo test    test result: ok. 5 passed; 0 failed; 1 ignored; ...
#     pytest        ===== 1 failed, 4 passed, 1 skipped in 0.12s =====
#     node --test   ℹ pass 5 (the spec reporter), or # pass 5 (the tap reporter)
#     fuzz.sh       4 passed, 0 failed
#   A test that did not run, is expected to fail or is marked as to do counts as skipped.

count_tests() {
    awk '
        /^test result: / { passed += $4; failed += $6; skipped += $8 }

        /^=+ .* in [0-9.]+s.* =+$/ {
            for (i = 2; i < NF; i++) {
                if ($(i + 1) ~ /^passed/) passed += $i
                else if ($(i + 1) ~ /^(failed|errors?)(,|$)/) failed += $i
                else if ($(i + 1) ~ /^(skipped|xfailed|xpassed)/) skipped += $i
            }
        }

        /^(ℹ|#) (pass|fail|cancelled|skipped|todo) [0-9]+$/ {
            if ($2 == "pass") passed += $3
            else if ($2 == "fail" || $2 == "cancelled") failed += $3
            else skipped += $3
        }

        /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }

        END { print passed + 0, failed + 0, skipped + 0 }
    ' "$1"
}

# failed_tests <log>
#   Prints the lines of the log that name a failed test, without colours, at most 20.
failed_tests() {
    awk '
        /^test .* \.\.\. FAILED/ || /^(FAILED|ERROR) / || /^ *not ok / { print }
        /^✖ failing tests:/ { listed = 1 }
        listed && /^✖ / && !/^✖ failing tests:/ { print }
    ' "$1" | head -n 20
}
