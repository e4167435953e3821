;; P12. Takes memory until there is no more, touches all of it, and says so.
;;; fields
(data (i32.const 1024) "no more memory")
;;; locals
(local $at i32)
;;; handle
(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
(local.set $at (i32.const 131072))
(loop $touch
    (i32.store8 (local.get $at) (i32.const 1))
    (local.set $at (i32.add (local.get $at) (i32.const 4096)))
    (br_if $touch (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
(call $failure (i32.const 507) (i32.const 1024) (i32.const 14))
