;; P20. Answers with numbers that are none: their bits are the machine's choice, unless
;; somebody makes them the same.
;;; handle
(f32.store (i32.const 1024) (f32.div (f32.const 0) (f32.convert_i32_u (i32.sub (local.get $len) (local.get $len)))))
(f32.store (i32.const 1028) (f32.add (f32.const -nan:0x200001) (f32.load (local.get $data))))
(f64.store (i32.const 1032) (f64.sqrt (f64.const -1)))
(v128.store (i32.const 1040) (f32x4.div (v128.const f32x4 0 -0 inf 1) (f32x4.splat (f32.load (i32.const 1100)))))
(call $answer (i32.const 1024) (i32.const 32))
