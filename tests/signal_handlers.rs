mod kit;

fn main() {
    kit::run(&[]);
}
