;; P9. Never returns, and is always in one call of the host: a search in the largest tensor.
;;; imports
(import "sluice:plugin/tensors@0.1.0" "[constructor]writer" (func $writer (param i32 i32 i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[method]writer.finish" (func $finish (param i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[method]tensor.top-k" (func $top_k (param i32 i32 i32)))
;;; locals
(local $tensor i32)
;;; handle
(i32.store (i32.const 1024) (i32.const 16777216))
(local.set $tensor (call $finish (call $writer (i32.const 11) (i32.const 1024) (i32.const 1))))
(loop $again
    (call $top_k (local.get $tensor) (i32.const 1) (i32.const 2048))
    (br $again))
(unreachable)
