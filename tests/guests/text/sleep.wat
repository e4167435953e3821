;; P9. Sleeps for a minute.
;;; imports
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
;;; handle
(call $block (call $after (i64.const 60000000000))) (unreachable)
