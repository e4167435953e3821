;; P2. Says that it is a program, and has no `run`.
;;; component
(component
    (core module $module (func (export "f")))
    (core instance $made (instantiate $module))
    (func $handle (canon lift (core func $made "f")))
    (instance $program (export "other" (func $handle)))
    (export "wasi:cli/run@0.2.0" (instance $program)))
