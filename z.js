const {execFileSync}=require('child_process');class HttpRequest{addHeader(h){this.h=h}post(u,b){this.o=execFileSync('curl',['-sS','-H',this.h,'--data-binary',b,u]).toString();return this.o}getStatus(){return 200}}
const value="{\"event_id\": \"48213\", \"event_value\": \"1\", \"event_update_status\": \"0\", \"event_name\": \"High CPU utilization (over 90% for 5m)\", \"event_severity\": \"Average\", \"event_opdata\": \"Current utilization: 97.3 %\", \"event_tags\": \"class:os, component:cpu, scope:performance, target:linux\", \"event_update_action\": \"{EVENT.UPDATE.ACTION}\", \"event_update_message\": \"{EVENT.UPDATE.MESSAGE}\", \"event_timestamp\": \"1795486230\", \"event_recovery_timestamp\": \"{EVENT.RECOVERY.TIMESTAMP}\", \"trigger_id\": \"22391\", \"trigger_description\": \"CPU utilization is too high. The system might be slow to respond.\", \"host_name\": \"db1.example.com\", \"host_ip\": \"192.0.2.10\", \"host_group\": \"Linux servers\", \"alert_message\": \"Problem started at 02:10:30 on 2026.11.24\\nProblem name: High CPU utilization (over 90% for 5m)\\nHost: db1.example.com\", \"url\": \"http://127.0.0.1:21400/in/x\"}";
(function(){var fields = JSON.parse(value), request = new HttpRequest(), url = fields.url;
delete fields.url;
request.addHeader('Content-Type: application/json');
var answer = request.post(url, JSON.stringify(fields));
if (request.getStatus() < 200 || request.getStatus() >= 300) {
  throw 'Tocsin answered ' + request.getStatus() + ': ' + answer;
}
return 'OK';
})()