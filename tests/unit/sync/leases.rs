use std::sync::Mutex;

use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn whoever_gets_no_answer_holds_up_no_other() {
    let (times, asked) = (Mutex::new([0; 3]), tokio::sync::Notify::new());
    let renew = async |n: usize| {
        times.lock().unwrap()[n] += 1;
        asked.notify_one();
        if n == 1 {
            std::future::pending::<()>().await;
        }
    };
    let others_go_on = async {
        while times.lock().unwrap()[0] < 3 || times.lock().unwrap()[2] < 3 {
            asked.notified().await;
        }
    };
    tokio::select! {
        () = rounds(Duration::from_millis(20), || vec![0, 1, 2], renew) => {}
        gone_on = timeout(Duration::from_secs(20), others_go_on) => gone_on.expect("the others are renewed"),
    }
}
