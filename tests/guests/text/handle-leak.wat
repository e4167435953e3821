;; P15. Asks for ten million handles and drops none.
;;; imports
(import "sluice:plugin/tensors@0.1.0" "[constructor]writer" (func $writer (param i32 i32 i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[method]writer.finish" (func $finish (param i32) (result i32)))
(import "sluice:plugin/tensors@0.1.0" "[resource-drop]writer" (func $drop (param i32)))
;;; locals
(local $left i32)
;;; handle
(i32.store (i32.const 1024) (i32.const 1))
(local.set $left (i32.const 10000000))
(loop $more
    (drop (call $writer (i32.const 1) (i32.const 1024) (i32.const 1)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $more (local.get $left)))
(call $answer (i32.const 16) (i32.const 4))
