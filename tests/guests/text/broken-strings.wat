;; P13. Strings whose lengths lead past the end.
;;; process
(i32.store8 (i32.const 4096) (i32.const 99))
(call $run (i32.const 1032) (i32.const 13) (i32.const 2) (i32.const 16))
