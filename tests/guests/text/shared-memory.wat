;; P18. Has a memory that threads would share.
;;; component
(component (core module (memory 1 1 shared)))
