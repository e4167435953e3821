;; P16. Ten thousand lines in one call.
;;; imports
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
;;; locals
(local $left i32)
;;; handle
(local.set $left (i32.const 10000))
(loop $more
    (call $log (i32.const 2) (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 10))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $more (local.get $left)))
(call $answer (i32.const 16) (i32.const 4))
