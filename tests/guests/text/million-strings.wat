;; P14. A million tensors, each with a name.
;;; locals
(local $at i32)
;;; handle
(drop (memory.grow (i32.const 1000)))
(local.set $at (i32.const 131072))
(loop $name
    (i32.store (local.get $at) (i32.const 16)) (i32.store offset=4 (local.get $at) (i32.const 10))
    (local.set $at (i32.add (local.get $at) (i32.const 56)))
    (br_if $name (i32.lt_u (local.get $at) (i32.const 56131072))))
(i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 1))
(i32.store (i32.const 264) (i32.const 131072)) (i32.store (i32.const 268) (i32.const 1000000))
(i32.const 256)
