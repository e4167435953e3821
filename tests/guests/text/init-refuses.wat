;; P7. Refuses its configuration, with a line break and an escape code in its words.
;;; fields
(data (i32.const 1024) "no\0afake line\1b[31m")
;;; init
(i32.store8 (i32.const 256) (i32.const 1))
(i32.store (i32.const 260) (i32.const 1024)) (i32.store (i32.const 264) (i32.const 17))
(i32.const 256)
