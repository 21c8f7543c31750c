//! A channel notification for a single user. Must never subscribe to the channel that it names.

use serde_json::json;
use tests::Server;

use crate::helpers::user;

#[tokio::test]
async fn a_channel_notification_for_one_user_reaches_only_that_user_and_is_stored() {
    let mut server = Server::dev().start().await;
    let (mut ana, mut phone) = (server.connect("/", user("7")).await, server.connect("/", user("7")).await);
    let (mut eva, mut visitor) = (server.connect("/", user("eva")).await, server.connect("/", ()).await);
    eva.ask("notifications:subscribe", json!({"channelId": "ch1"})).await;
    let notice = json!({"userId": 7, "type": "strike", "title": "For you", "message": "Look", "timestamp": 1_234_567_890});
    server.publish("channel.notification", notice).await;
    let received = ana.next("notification").await;
    let expected =
        json!({"id": received["id"], "type": "strike", "title": "For you", "message": "Look", "timestamp": 1_234_567_890});
    assert_eq!(received, expected);
    assert_eq!(phone.next("notification").await, expected, "on every device");
    server.publish("channel.notification", json!({"channelId": "ch1", "title": "For all"})).await;
    assert_eq!(eva.next("notification").await["title"], "For all");
    for other in [&mut eva, &mut visitor, &mut ana, &mut phone] {
        other.expect_none("notification").await;
    }
    ana.expect_none("notification:new").await;

    server.restart().await;
    let mut ana = server.connect("/", user("7")).await;
    let list = ana.ask("notifications:list", json!({})).await;
    assert_eq!((&list["notifications"][0]["id"], &list["unreadCount"]), (&received["id"], &json!(1)));
    assert_eq!(ana.ask("notifications:read", json!({"notificationId": received["id"]})).await, json!({}));
    assert_eq!(ana.ask("notifications:list", json!({"unreadOnly": true})).await["unreadCount"], 0);
}
