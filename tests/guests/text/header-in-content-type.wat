;; P14. A content type with another header in it.
;;; fields
(data (i32.const 1024) "a/b\0d\0aX: y")
;;; handle
(drop (call $answer (i32.const 1024) (i32.const 1)))
(i32.store (i32.const 268) (i32.const 1024))
(i32.const 256)
