;; P9. Never returns, and is mostly in calls of the host.
;;; imports
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
;;; handle
(loop $again
    (call $log (i32.const 1) (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 10))
    (br $again))
(unreachable)
